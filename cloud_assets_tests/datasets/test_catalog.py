"""The catalog of scenes and what all data sets share."""

from dataclasses import replace
from pathlib import Path

import pytest

from cloud_assets.datasets.dataset import Collection, Dataset, apply_split_list, official_split
from cloud_assets.datasets.samples import SYNTHETIC_MARKER
from cloud_assets.datasets.scene import RasterBand, Scene, SceneCatalog, Skipped
from cloud_assets.errors import DataNotFound, InvalidData


def scene(name: str, **changes: object) -> Scene:
    whole = Scene(name, f"group {name}", "landsat8_l1", {"B4": RasterBand(f"{name}.tif")}, content_hash=f"hash {name}")
    return replace(whole, **changes)  # type: ignore[arg-type]


class Listed(Dataset):
    """A data set that finds as many scenes and unusable items as its options say."""

    folder = "listed"
    title = "Listed"
    how_to_get = "Write it down."
    good: int = 3
    bad: int = 0

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        bad = [Skipped(f"file {number}", "is broken") for number in range(self.bad)]
        return Collection([scene(f"s{number}") for number in reversed(range(self.good))], bad)


def test_a_catalog_survives_saving(tmp_path: Path) -> None:
    catalog = SceneCatalog(
        "Any", (scene("a", split="train"), scene("b", label="cloud")), (Skipped("c", "is broken"),), True, ("a note",)
    )
    catalog.save(tmp_path)
    opened = SceneCatalog.open(tmp_path)
    assert opened == catalog
    assert opened.data_version == catalog.data_version
    assert [each.scene_id for each in opened] == ["a", "b"]


def test_a_catalog_of_two_versions_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, name in ((first, "a"), (second, "b")):
        folder.mkdir()
        SceneCatalog("Any", (scene(name),)).save(folder)
    (first / "scenes.parquet").write_bytes((second / "scenes.parquet").read_bytes())
    with pytest.raises(InvalidData, match="not the table"):
        SceneCatalog.open(first)
    with pytest.raises(InvalidData, match="no readable scene catalog"):
        SceneCatalog.open(tmp_path)


def test_the_data_version_follows_pixels_and_splits_not_order() -> None:
    one, two = scene("a"), scene("b")
    version = SceneCatalog("Any", (one, two)).data_version
    assert SceneCatalog("Any", (two, one)).data_version == version
    assert SceneCatalog("Any", (one,)).data_version != version
    assert SceneCatalog("Any", (one, replace(two, content_hash="changed"))).data_version != version
    assert SceneCatalog("Any", (one, replace(two, split="test"))).data_version != version


def test_the_summary_counts() -> None:
    scenes = (scene("a", split="train"), scene("b", split="train", group="group a"), scene("c", split="test"))
    summary = SceneCatalog("Any", scenes, (Skipped("d", "is broken"),)).summary()
    assert (summary["scenes"], summary["groups"], summary["skipped"]) == (3, 2, 1)
    assert summary["splits"] == {"test": 1, "train": 2}
    assert summary["bands"] == ["B4"]


def test_a_missing_folder_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"(?s)listed.*CLOUD_ASSETS_DATA.*Write it down") as caught:
        Listed().catalog(tmp_path, progress=False)
    assert str(tmp_path / "listed") in str(caught.value)


def test_scenes_come_sorted_and_the_marker_says_synthetic(tmp_path: Path) -> None:
    (tmp_path / "listed").mkdir()
    catalog = Listed().catalog(tmp_path, progress=False)
    assert [each.scene_id for each in catalog] == ["s0", "s1", "s2"]
    assert not catalog.is_synthetic
    (tmp_path / "listed" / SYNTHETIC_MARKER).write_text("simulated")
    assert Listed().catalog(tmp_path, progress=False).is_synthetic


def test_more_unusable_items_than_tolerated_are_fatal_and_listed(tmp_path: Path) -> None:
    (tmp_path / "listed").mkdir()
    assert len(Listed(good=19, bad=1).catalog(tmp_path, progress=False).skipped) == 1
    with pytest.raises(InvalidData, match=r"(?s)2 of 20 items.*file 0: is broken \(and 1 more like it\)"):
        Listed(good=18, bad=2).catalog(tmp_path, progress=False)
    tolerant = Listed(good=18, bad=2, max_skipped_fraction=0.1).catalog(tmp_path, progress=False)
    assert len(tolerant) == 18
    with pytest.raises(DataNotFound):
        Listed(good=0).catalog(tmp_path, progress=False)


def test_a_local_split_list_wins_over_the_official_one(tmp_path: Path) -> None:
    table = tmp_path / "splits.csv"
    table.write_text("name,scene_id,split\na,acquisition 1,val\npictures/b,,test\nz,,train\n")
    scenes = [scene("cloud/a", split="train"), scene("pictures/b"), scene("c", split="test")]
    placed, notes = apply_split_list(table, scenes)
    assert [each.split for each in placed] == ["validation", "test", "test"]
    assert [each.group for each in placed] == ["acquisition 1", "group pictures/b", "group c"]
    assert any("1 of the 3 names" in note for note in notes)
    assert any("1 scenes are not in" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "message"), [("name,scene_id\na,b\n", "columns"), ("name,split\na,both\n", "both"), ("", "columns")]
)
def test_a_wrong_split_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "splits.csv"
    table.write_text(text)
    with pytest.raises(InvalidData, match=message):
        apply_split_list(table, [scene("a")])


def test_split_names() -> None:
    assert [official_split(name) for name in ("val", "Validation", "train", "test", "", None, "other")] == [
        "validation", "validation", "train", "test", None, None, None,
    ]  # fmt: skip
