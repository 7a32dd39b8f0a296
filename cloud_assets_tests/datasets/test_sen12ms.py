"""SEN12MS as archives and as unpacked folders."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.datasets.sen12ms import Sen12MS
from cloud_assets.errors import DataNotFound, InvalidData

WINTER = "ROIs2017_winter"
Pair = Callable[..., None]


def catalog(data_root: Path, **options: object) -> SceneCatalog:
    return Sen12MS(**options).catalog(data_root, data_root / "cache", progress=False)  # type: ignore[arg-type]


def pack(tree: Path, season: str, target: Path) -> None:
    """Packs an unpacked season into the archives that are published: one a sensor."""
    target.mkdir(parents=True, exist_ok=True)
    for sensor in ("s1", "s2"):
        with tarfile.open(target / f"{season}_{sensor}.tar.gz", "w:gz") as archive:
            for folder in sorted((tree / season).glob(f"{sensor}_*")):
                archive.add(folder, f"{season}/{folder.name}")


@pytest.fixture
def tree(tmp_path: Path, sen12ms_pair: Pair) -> Path:
    """Four pairs of three scenes in two seasons, unpacked."""
    folder = tmp_path / "tree"
    for season, scene, patch in ((WINTER, 1, 30), (WINTER, 1, 31), (WINTER, 2, 30), ("ROIs1970_fall", 1, 30)):
        sen12ms_pair(folder, season, scene, patch)
    return folder


def test_pairs_are_found_in_archives_and_in_folders_alike(tmp_path: Path, tree: Path) -> None:
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked"
    for season in (WINTER, "ROIs1970_fall"):
        pack(tree, season, packed / "sen12ms")
    unpacked.mkdir()
    tree.rename(unpacked / "sen12ms")
    found = [catalog(packed), catalog(unpacked)]
    assert found[0].data_version == found[1].data_version
    assert [scene.scene_id for scene in found[0]] == [
        "ROIs1970_fall_1_p30",
        "ROIs2017_winter_1_p30",
        "ROIs2017_winter_1_p31",
        "ROIs2017_winter_2_p30",
    ]
    assert found[0].summary()["groups"] == 3
    scene = found[0].scenes[0]
    radar, optical = scene.read(["VV", "VH"]), scene.read(["red", "B8A"])
    assert (radar.shape, radar.dtype) == ((2, 8, 8), np.float32)
    assert (optical.shape, optical.dtype) == ((2, 8, 8), np.uint16)
    assert scene.band_instrument("VH").name == "sentinel1_grd"
    assert not list((packed / "sen12ms").rglob("*.tif"))  # the data folder is only read


def test_archives_are_unpacked_once_and_not_at_all_if_their_files_lie_beside_them(tmp_path: Path, tree: Path) -> None:
    pack(tree, WINTER, tmp_path / "sen12ms")
    catalog(tmp_path)
    place = tmp_path / "cache" / "sen12ms" / ".unpacked"
    first = {path: path.stat().st_mtime_ns for path in place.rglob("*.tif")}
    assert len(first) == 6
    catalog(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.tif")} == first
    pack(tree, WINTER, tree)
    (tmp_path / "beside").mkdir()
    tree.rename(tmp_path / "beside" / "sen12ms")
    assert len(catalog(tmp_path / "beside")) == 4
    assert not (tmp_path / "beside" / "cache").exists()


def test_seasons_and_the_number_of_pairs_can_be_chosen(tmp_path: Path, tree: Path) -> None:
    tree.rename(tmp_path / "sen12ms")
    assert len(catalog(tmp_path, seasons=("winter",))) == 3
    with pytest.raises(DataNotFound, match="neither an archive nor a patch of summer"):
        catalog(tmp_path, seasons=("summer",))
    two = [scene.scene_id for scene in catalog(tmp_path, max_pairs=2)]
    assert len(two) == 2
    assert set(two) < {scene.scene_id for scene in catalog(tmp_path, max_pairs=3)}


def test_bad_pairs_are_skipped_with_their_reasons(tmp_path: Path, tree: Path, sen12ms_pair: Pair) -> None:
    folder = tmp_path / "sen12ms"
    tree.rename(folder)
    decibel = np.full((2, 8, 8), -10.0, np.float32)
    with_nan, with_infinity = decibel.copy(), decibel.copy()
    with_nan[0, 3, 3], with_infinity[1, 0, :2] = np.nan, -np.inf
    bad = {
        "p1": {"s2": None},
        "p2": {"s1": None},
        "p3": {"s1": with_nan},
        "p4": {"s1": with_infinity},
        "p5": {"s1": (10 ** (decibel / 10)).astype(np.float32)},
        "p6": {"s1": decibel[:1]},
        "p7": {"s2": np.ones((12, 8, 8), np.uint16)},
        "p8": {"s2": np.ones((13, 8, 9), np.uint16)},
        "p9": {"s2": np.zeros((13, 8, 8), np.uint16)},
        "p10": {"s2": np.ones((13, 8, 8), np.float32)},
    }
    for name, change in bad.items():
        sen12ms_pair(folder, WINTER, 9, int(name[1:]), **change)
    sen12ms_pair(folder, "ROIs1868_summer", 146, 202)
    (folder / WINTER / "s1_1" / f"{WINTER}_s1_1_p31.tif").write_bytes(b"II*\x00damaged")
    found = catalog(tmp_path, max_skipped_fraction=0.9)
    reasons = {item.item.removeprefix(f"{WINTER}_9_"): item.reason for item in found.skipped}
    assert len(found) == 3
    assert "has no s2 partner" in reasons["p1"]
    assert "has no s1 partner" in reasons["p2"]
    assert "1 backscatter values that are NaN or infinite" in reasons["p3"]
    assert "2 backscatter values" in reasons["p4"]
    assert "linear power" in reasons["p5"]
    assert "10 * log10" in reasons["p5"]
    assert "has 1 band(s), s1 patches have 2" in reasons["p6"]
    assert "has 12 band(s), s2 patches have 13" in reasons["p7"]
    assert "differ in size" in reasons["p8"]
    assert "blank" in reasons["p9"]
    assert "float32" in reasons["p10"]
    assert "damaged" in reasons["ROIs1868_summer_146_p202"]
    assert "missing, truncated or no raster" in reasons[f"{WINTER}_1_p31"]
    assert len(reasons) == 12


def test_the_official_hold_out_list_is_the_test_split(tmp_path: Path, tree: Path) -> None:
    tree.rename(tmp_path / "sen12ms")
    (tmp_path / "sen12ms" / "test_list.txt").write_text(
        f"{WINTER}/s2_2/{WINTER}_s2_2_p30.tif\nROIs1970_fall_s1_1_p30\n"
    )
    found = {scene.scene_id: scene.split for scene in catalog(tmp_path, holdout_list="test_list.txt")}
    assert found == {
        "ROIs1970_fall_1_p30": "test",
        "ROIs2017_winter_1_p30": None,
        "ROIs2017_winter_1_p31": None,
        "ROIs2017_winter_2_p30": "test",
    }
    with pytest.raises(InvalidData, match=r"other\.txt is not there"):
        catalog(tmp_path, holdout_list="other.txt")
    (tmp_path / "sen12ms" / "test_list.txt").write_text("nothing of the kind\n")
    with pytest.raises(InvalidData, match="names no patch"):
        catalog(tmp_path, holdout_list="test_list.txt")


def test_unsafe_and_truncated_archives_stop_with_their_name(
    tmp_path: Path, tree: Path, truncate: Callable[..., None]
) -> None:
    pack(tree, WINTER, tmp_path / "sen12ms")
    archive = tmp_path / "sen12ms" / f"{WINTER}_s2.tar.gz"
    whole = archive.read_bytes()
    truncate(archive, 0.6)
    with pytest.raises(InvalidData, match=archive.name):
        catalog(tmp_path)
    archive.write_bytes(whole)
    assert len(catalog(tmp_path)) == 3
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(archive, "w:gz") as writer:
        writer.addfile(link)
    with pytest.raises(InvalidData, match=archive.name):
        catalog(tmp_path)


def test_the_real_pairs(real_data: Path, tmp_path: Path) -> None:
    found = Sen12MS().catalog(real_data, tmp_path, progress=False)
    assert {"ROIs1970_fall_139_p839", "ROIs2017_winter_112_p797"} <= {scene.scene_id for scene in found}
    for scene in found:
        assert scene.read(["VV", "VH"]).shape == (2, 256, 256)
        assert scene.read(["red"]).shape == (1, 256, 256)
        assert scene.grid().transform[0] == 10
