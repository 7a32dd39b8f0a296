"""CloudSEN12 as TACO files."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.datasets.cloudsen12 import CloudSEN12
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.errors import DataNotFound, InvalidData

Taco = Callable[..., Path]
Sample = Callable[..., object]


def catalog(data_root: Path, **options: object) -> SceneCatalog:
    return CloudSEN12(**options).catalog(data_root, progress=False)  # type: ignore[arg-type]


def test_samples_are_read_as_they_were_written(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    samples = [sample("a"), sample("b", split="validation"), sample("c", split="test")]
    taco(tmp_path / "cloudsen12" / "mine.taco", samples)
    found = catalog(tmp_path)
    assert [(scene.scene_id, scene.split) for scene in found] == [("a", "train"), ("b", "validation"), ("c", "test")]
    for scene, written in zip(found, samples, strict=True):
        image, target = written.pixels()  # type: ignore[attr-defined]
        np.testing.assert_array_equal(scene.read(list(scene.bands)), image)
        np.testing.assert_array_equal(scene.read(["red", "B10"]), image[[3, 10]])
        np.testing.assert_array_equal(scene.read_truth(), target)
        assert scene.attributes["clear_percentage"] == 25.0
        assert scene.grid().crs == "EPSG:32633"


def test_scribble_codes_become_canonical_and_labels_without_truth_are_refused(
    tmp_path: Path, taco: Taco, sample: Sample
) -> None:
    scribble = np.array([[0, 1, 2, 3, 4, 5], [6, 99, 99, 99, 0, 0]] * 3, np.uint8)
    samples = [sample("s", label_type="scribble", target=scribble), sample("h"), sample("n", label_type="nolabel")]
    taco(tmp_path / "cloudsen12" / "mine.taco", samples)
    found = catalog(tmp_path)
    assert [(scene.scene_id, scene.label_type) for scene in found] == [("h", "high"), ("s", "scribble")]
    np.testing.assert_array_equal(found.scenes[1].read_truth()[:2], [[0, 1, 1, 2, 2, 3], [3, 255, 255, 255, 0, 0]])
    assert [scene.scene_id for scene in catalog(tmp_path, label_types=("scribble",))] == ["s"]
    with pytest.raises(ValidationError, match="'nolabel' has no truth"):
        CloudSEN12(label_types=("high", "nolabel"))


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 3), (1, 2), (0, 3)])
def test_padding_is_found_on_whatever_side_it_is(
    tmp_path: Path, taco: Taco, sample: Sample, top: int, left: int
) -> None:
    image, target = sample("p", real_size=9).pixels()  # type: ignore[attr-defined]
    target += 0
    sides = ((top, 3 - top), (left, 3 - left))
    padded = sample("p", real_size=9, image=np.pad(image, ((0, 0), *sides)), target=np.pad(target, sides))
    taco(tmp_path / "cloudsen12" / "mine.taco", [padded])
    scene = catalog(tmp_path).scenes[0]
    np.testing.assert_array_equal(scene.read(list(scene.bands)), image)
    np.testing.assert_array_equal(scene.read_truth(), target)
    assert scene.grid().transform[2] == 500_000 + 10 * left
    assert scene.grid().transform[5] == 4_000_000 - 10 * top


def test_data_in_the_padding_mean_that_there_is_none(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    image, target = sample("p", real_size=12).pixels()  # type: ignore[attr-defined]
    taco(tmp_path / "cloudsen12" / "mine.taco", [sample("p", real_size=9, image=image, target=target)])
    assert catalog(tmp_path).scenes[0].read(["red"]).shape == (1, 12, 12)


def test_nodata_at_the_edge_of_a_padded_image_keeps_the_real_size(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    image, target = sample("p", real_size=9).pixels()  # type: ignore[attr-defined]
    image[:, :, :2] = 0
    padded = sample(
        "p", real_size=9, image=np.pad(image, ((0, 0), (1, 2), (0, 3))), target=np.pad(target, ((1, 2), (0, 3)))
    )
    taco(tmp_path / "cloudsen12" / "mine.taco", [padded])
    scene = catalog(tmp_path).scenes[0]
    assert scene.read(["red"]).shape == (1, 9, 9)
    np.testing.assert_array_equal(scene.read(["red"])[0, 0].nonzero()[0].size, 7)


def test_bands_that_are_empty_in_every_sample_are_not_offered(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    samples = []
    for name in "ab":
        image, target = sample(name).pixels()  # type: ignore[attr-defined]
        image[[0, 4]] = 0
        samples.append(sample(name, image=image, target=target))
    taco(tmp_path / "cloudsen12" / "mine.taco", samples)
    found = catalog(tmp_path)
    assert "B05" not in found.scenes[0].bands
    assert len(found.scenes[0].bands) == 11
    assert any("B01, B05" in note for note in found.notes)
    with pytest.raises(InvalidData, match="rededge071"):
        found.scenes[0].read(["rededge071"])


def test_dates_of_a_region_and_regions_of_one_product_are_one_group(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    samples = [
        sample("a1", roi_id="ROI_1", s2_id="X"),
        sample("a2", roi_id="ROI_1", s2_id="Y"),
        sample("b", roi_id="ROI_2", s2_id="Y"),
        sample("c", roi_id="ROI_3", s2_id="Z"),
        sample("d", roi_id="ROI_4", s2_id="Y", split="test"),  # the official splits are not torn down
    ]
    taco(tmp_path / "cloudsen12" / "mine.taco", samples)
    groups = {scene.scene_id: scene.group for scene in catalog(tmp_path)}
    assert groups == {"a1": "ROI_1", "a2": "ROI_1", "b": "ROI_1", "c": "ROI_3", "d": "ROI_4"}


def test_samples_of_unknown_region_or_product_are_no_group(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    nowhere = {"roi_id": None, "s2_id": None}
    samples = [sample("a", extra=nowhere), sample("b", extra=nowhere), sample("c", extra={"s2_id": None}), sample("d")]
    taco(tmp_path / "cloudsen12" / "mine.taco", samples)
    assert [scene.group for scene in catalog(tmp_path)] == ["a", "b", "ROI_c", "ROI_d"]


def test_a_choice_is_reproducible_stratified_and_grows(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    samples = [sample(f"{split}{number}", split=split) for split in ("train", "test") for number in range(12)]
    taco(tmp_path / "cloudsen12" / "mine.taco", samples)

    def chosen(**options: int) -> list[str]:
        return [scene.scene_id for scene in catalog(tmp_path, **options)]

    six = chosen(max_samples=6)
    assert chosen(max_samples=6) == six
    assert sum(name.startswith("test") for name in six) == 3
    assert set(six) < set(chosen(max_samples=10))
    assert chosen(max_samples=6, seed=1) != six
    assert len(chosen(max_samples=100)) == 24


def test_large_patches_are_an_option(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    image, target = np.ones((13, 20, 20), np.uint16), np.zeros((20, 20), np.uint8)
    samples = [sample("small"), sample("large", real_size=2000, image=image, target=target)]
    taco(tmp_path / "cloudsen12" / "mine.taco", samples)
    assert [scene.scene_id for scene in catalog(tmp_path)] == ["small"]
    assert len(catalog(tmp_path, large_patches=True)) == 2


def test_the_published_parts_must_be_complete(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    folder = tmp_path / "cloudsen12"
    for number in (0, 2):
        taco(folder / f"cloudsen12-l1c.{number:04d}.part.taco", [sample(f"s{number}")])
    with pytest.raises(InvalidData, match=r"parts are missing: cloudsen12-l1c\.0001\.part\.taco"):
        catalog(tmp_path)
    assert len(catalog(tmp_path, allow_missing_parts=True)) == 2
    taco(folder / "cloudsen12-l1c.0001.part.taco", [sample("s1")])
    with pytest.raises(InvalidData, match=r"3 samples, the data set has 50,249: a later part is missing"):
        catalog(tmp_path)
    assert [scene.scene_id for scene in catalog(tmp_path, expected_samples=3)] == ["s0", "s1", "s2"]


def test_files_of_other_levels_are_left_alone(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    taco(tmp_path / "cloudsen12" / "cloudsen12-l2a.taco", [sample("a")])
    taco(tmp_path / "cloudsen12" / "mine.taco", [sample("a")])
    found = catalog(tmp_path)
    assert len(found) == 1
    assert found.notes[0] == "Not read: cloudsen12-l2a.taco."


def test_a_truncated_file_is_named(tmp_path: Path, taco: Taco, sample: Sample, truncate: Callable[..., None]) -> None:
    truncate(taco(tmp_path / "cloudsen12" / "mine.taco", [sample("a"), sample("b")]))
    with pytest.raises(InvalidData, match=r"mine\.taco cannot be read as a TACO file"):
        catalog(tmp_path)


def test_a_file_that_is_there_twice_is_noticed(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    for name in ("mine", "copy"):
        taco(tmp_path / "cloudsen12" / f"{name}.taco", [sample("a")])
    with pytest.raises(InvalidData, match="1 sample ids occur twice, such as a"):
        catalog(tmp_path)


def test_bad_samples_are_skipped_with_their_reasons(tmp_path: Path, taco: Taco, sample: Sample) -> None:
    image, _ = sample("x").pixels()  # type: ignore[attr-defined]
    samples = [
        sample("code", target=np.full((6, 6), 9, np.uint8)),
        sample("size", target=np.zeros((5, 6), np.uint8)),
        sample("bands", image=image[:12]),
        sample("type", image=image.astype(np.float32)),
        sample("good"),
    ]
    path = taco(tmp_path / "cloudsen12" / "mine.taco", samples)
    with pytest.raises(InvalidData, match="4 of 5"):
        catalog(tmp_path)
    found = catalog(tmp_path, max_skipped_fraction=0.8)
    reasons = {item.item: item.reason for item in found.skipped}
    assert "label code(s) 9" in reasons["code"]
    assert str(path) in reasons["code"]
    assert reasons["size"] == "the image has 6x6 pixels, the target 5x6"
    assert reasons["bands"] == "the image has 12 bands of uint16, not 13 of uint16"
    assert "float32" in reasons["type"]


def test_columns_that_are_not_there_are_named(
    tmp_path: Path, taco: Taco, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_assets.datasets import taco as reader

    taco(tmp_path / "cloudsen12" / "mine.taco", [sample("a")])
    read = reader.read_tables
    monkeypatch.setattr(reader, "read_tables", lambda sources: read(sources).drop(columns="roi_id"))
    with pytest.raises(InvalidData, match="lacks columns: roi_id"):
        catalog(tmp_path)


def test_without_a_data_root_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="CLOUD_ASSETS_DATA"):
        catalog(tmp_path / "nowhere")
    with pytest.raises(DataNotFound, match=r"cloudsen12"):
        catalog(tmp_path, download=False)


def test_declaring_the_data_set_imports_nothing_heavy() -> None:
    import subprocess

    modules = ", ".join(
        f"cloud_assets.datasets.{name}" for name in ("cloudsen12", "cloud38", "sen12ms", "image_folders")
    )
    heavy = ("torch", "rasterio", "pandas", "pyarrow", "tacoreader", "scipy", "requests")
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_real_file(real_data: Path) -> None:
    found = catalog(real_data)
    assert len(found) == 36
    assert found.summary()["splits"] == {"test": 5, "train": 23, "validation": 8}
    assert set(found.scenes[0].bands) == {"B02", "B03", "B04", "B08", "B10", "B11", "B12"}
    for scene in found.scenes[::6]:
        share = float((scene.read_truth() == 1).mean() * 100)
        assert share == pytest.approx(float(scene.attributes["thick_percentage"]), abs=1e-3)
