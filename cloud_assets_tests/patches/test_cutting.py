from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.datasets.scene import RasterBand, SceneCatalog
from cloud_assets.errors import InvalidData, InvalidRecipe, NoUsablePatches, UnknownBand
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patches.conftest import BANDS, landsat_scene, random_image, write_tif

Make = Callable[..., SceneCatalog]


def cut(catalog: SceneCatalog, directory: Path, size: int | None = None, **fields: Any) -> PatchStore:
    return cut_patches(catalog, PatchRecipe(bands=BANDS, size=size, **fields), directory, progress=False)


def test_patches_put_together_again_are_the_scene(catalog: Make, tmp_path: Path) -> None:
    scenes = catalog([(70, 50), (33, 64), (16, 16)])
    store = cut(scenes, tmp_path / "s", 16, minimum_valid=0.0)
    index = store.index
    for scene in scenes:
        image, truth = scene.read(BANDS), scene.read_truth()
        whole = np.zeros((4, 80, 80), np.uint16)
        labels = np.full((80, 80), 254, np.uint8)
        for row in np.flatnonzero(index["scene_id"] == scene.scene_id):
            top, left = index["row"][row], index["col"][row]
            whole[:, top : top + 16, left : left + 16] = store.array()[row]
            labels[top : top + 16, left : left + 16] = store.masks[row]
        height, width = truth.shape
        np.testing.assert_array_equal(whole[:, :height, :width], image)
        np.testing.assert_array_equal(labels[:height, :width], truth)
        # What lies beyond the scene inside the last windows is nodata and unlabelled.
        assert not whole[:, height:].any()
        assert not whole[:, :, width:].any()
        assert set(np.unique(labels[height:])) <= {254, 255}
        assert set(np.unique(labels[:, width:])) <= {254, 255}


def test_index_tells_where_a_patch_lies(catalog: Make, tmp_path: Path) -> None:
    store = cut(catalog([(64, 96)]), tmp_path / "s", 32)
    last = store.index.iloc[-1]
    assert (last["patch_id"], last["row"], last["col"]) == ("scene0_32_64", 32, 64)
    assert last["crs"] == "EPSG:32633"
    np.testing.assert_allclose(last["transform"], [30, 0, 500_000 + 64 * 30, 0, -30, 4_600_000 - 32 * 30])
    assert last["source"].endswith("scene0.tif")


def test_without_a_size_the_scenes_must_agree(catalog: Make, tmp_path: Path) -> None:
    assert list(cut(catalog([(40, 30), (40, 30)]), tmp_path / "s").index["patch_id"]) == ["scene0", "scene1"]
    with pytest.raises(InvalidData, match=r"scene1 has \(30, 40\) pixels, the scenes before it \(40, 30\)"):
        cut(catalog([(40, 30), (30, 40)], folder="other"), tmp_path / "s")


def test_version_depends_on_pixels_not_on_place_or_threads(catalog: Make, tmp_path: Path) -> None:
    sizes = [(40, 40)] * 5
    first, moved = catalog(sizes), catalog(sizes, folder="moved")
    version = cut(first, tmp_path / "a", 16).data_version
    recipe = PatchRecipe(bands=BANDS, size=16)
    assert cut_patches(moved, recipe, tmp_path / "b", progress=False, threads=4).data_version == version
    assert cut(first, tmp_path / "c", 20).data_version != version
    image = first.scenes[3].read(BANDS)
    image[2, 17, 5] += 1
    changed = landsat_scene(tmp_path / "changed", "scene3", image, first.scenes[3].read_truth())
    scenes = (*first.scenes[:3], changed, first.scenes[4])
    assert cut(SceneCatalog("tiny", scenes), tmp_path / "d", 16).data_version != version


def test_nodata_is_unlabelled_and_blank_patches_are_left_out(tmp_path: Path) -> None:
    image = random_image(np.random.default_rng(0), 32, 32)
    image[:, :, :20] = 0
    image[0, 30, 30] = 0  # one band alone at 0 is a dark pixel, not a missing one
    scene = landsat_scene(tmp_path, "border", image, np.ones((32, 32), np.uint8))
    store = cut(SceneCatalog("tiny", (scene,)), tmp_path / "s", 16)
    assert (len(store), store.manifest.dropped_blank) == (2, 2)
    assert store.manifest.dropped_blank_patches == ("border_0_0", "border_16_0")
    assert (store.masks[:, :, :4] == 255).all()
    assert (store.masks[:, :, 4:] == 1).all()
    assert list(store.index["valid_fraction"]) == [0.75, 0.75]


def test_all_blank_is_an_error(tmp_path: Path) -> None:
    scene = landsat_scene(tmp_path, "night", np.zeros((4, 32, 32), np.uint16), np.zeros((32, 32), np.uint8))
    with pytest.raises(NoUsablePatches, match="1 held less than"):
        cut(SceneCatalog("tiny", (scene,)), tmp_path / "s")


def test_no_scene_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoUsablePatches, match="no readable scene"):
        cut(SceneCatalog("tiny", ()), tmp_path / "s")


def test_unreadable_scenes_are_listed_within_the_tolerance(catalog: Make, tmp_path: Path) -> None:
    scenes = catalog([(32, 32)] * 10)
    damaged = Path(scenes.scenes[4].bands["B4"].path)
    damaged.write_bytes(damaged.read_bytes()[:900])
    recipe = PatchRecipe(bands=BANDS)
    store = cut_patches(scenes, recipe, tmp_path / "s", progress=False, max_skipped_fraction=0.1)
    assert len(store) == 9
    assert [item for item, _ in store.manifest.skipped] == ["scene4"]
    assert "scene4.tif" in store.manifest.skipped[0][1]
    with pytest.raises(InvalidData, match="1 of 10 items"):
        cut(scenes, tmp_path / "s")
    assert len(PatchStore.open(tmp_path / "s")) == 9  # the failure left the older store alone


def test_truth_of_another_size_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = landsat_scene(tmp_path, "odd", random_image(rng, 32, 32), np.zeros((32, 31), np.uint8))
    with pytest.raises(InvalidData, match=r"odd: sizes differ, images: \(32, 32\); truth: \(32, 31\)"):
        cut(SceneCatalog("tiny", (scene,)), tmp_path / "s")


def test_unknown_codes_are_named(tmp_path: Path) -> None:
    truth = np.full((32, 32), 9, np.uint8)
    scene = landsat_scene(tmp_path, "odd", random_image(np.random.default_rng(0), 32, 32), truth)
    with pytest.raises(InvalidData, match=r"label code\(s\) 9"):
        cut(SceneCatalog("tiny", (scene,)), tmp_path / "s")


def test_mixed_data_types_and_instruments_are_named(catalog: Make, tmp_path: Path) -> None:
    scenes = catalog([(32, 32)] * 2).scenes
    eight_bit = landsat_scene(tmp_path, "eight", np.ones((4, 32, 32), np.uint8), np.zeros((32, 32), np.uint8))
    with pytest.raises(InvalidData, match=r"eight has images as uint8 of landsat8_l1.*uint16"):
        cut(SceneCatalog("tiny", (*scenes, eight_bit)), tmp_path / "s")
    surface = replace(scenes[0], scene_id="surface", instrument="landsat8_l2")
    with pytest.raises(InvalidData, match="surface has images as uint16 of landsat8_l2"):
        cut(SceneCatalog("tiny", (*scenes, surface)), tmp_path / "s")


def test_a_band_that_nobody_has_is_an_error_at_once(catalog: Make, tmp_path: Path) -> None:
    with pytest.raises(UnknownBand, match="ultraviolet"):
        cut_patches(catalog([(32, 32)]), PatchRecipe(bands=("ultraviolet",)), tmp_path / "s", progress=False)


def test_pairs_have_a_role_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    radar = rng.normal(-12, 3, (2, 40, 40)).astype(np.float32)
    radar[:, :10] = np.nan
    optical = rng.integers(1, 9000, (3, 40, 40), dtype=np.uint16)
    bands = {name: RasterBand(write_tif(tmp_path / "s1.tif", radar), i) for i, name in enumerate(("VV", "VH"), 1)}
    path = write_tif(tmp_path / "s2.tif", optical)
    bands |= {name: RasterBand(path, i) for i, name in enumerate(("B04", "B03", "B02"), 1)}
    scene = landsat_scene(tmp_path, "pair", random_image(rng, 40, 40))
    instruments = {"VV": "sentinel1_grd", "VH": "sentinel1_grd"}
    scene = replace(scene, bands=bands, instrument="sentinel2_l1c", band_instruments=instruments)
    recipe = PatchRecipe(roles={"sar": ("VV", "VH"), "optical": ("B04", "B03", "B02")}, size=32, minimum_valid=0.0)
    store = cut_patches(SceneCatalog("pairs", (scene,)), recipe, tmp_path / "s", progress=False)
    assert (store.array("sar").dtype, store.array("optical").dtype) == (np.float32, np.uint16)
    assert not store.has_masks
    assert store.roles["sar"].instrument == "sentinel1_grd"
    np.testing.assert_array_equal(store.array("sar")[0], radar[:, :32, :32])
    np.testing.assert_array_equal(store.array("optical")[0], optical[:, :32, :32])
    # The last patch is a corner of 8 x 8 pixels; radar fills up with NaN, optical with 0.
    assert np.isnan(store.array("sar")[3, :, 8:]).all()
    assert not store.array("optical")[3, :, 8:].any()
    assert store.index["valid_fraction"][0] == (32 - 10) / 32
    mixed = PatchRecipe(bands=("VV", "B04"))
    with pytest.raises(InvalidRecipe, match="give each instrument a role of its own"):
        cut_patches(SceneCatalog("pairs", (scene,)), mixed, tmp_path / "s", progress=False)


def test_scenes_of_any_size_are_resized_when_asked_for(tmp_path: Path) -> None:
    image = np.zeros((4, 60, 90), np.uint16)
    image[:] = np.linspace(1000, 9000, 90, dtype=np.uint16)
    truth = np.zeros((60, 90), np.uint8)
    truth[:, 45:] = 1
    scene = landsat_scene(tmp_path, "photo", image, truth)
    store = cut(SceneCatalog("tiny", (scene,)), tmp_path / "s", 30, resize=True)
    assert store.array().shape == (1, 4, 30, 30)
    np.testing.assert_allclose(store.array()[0, 0, 15], image[0, 0].reshape(30, 3).mean(axis=1), atol=120)
    assert store.index["cloud_percentage"][0] == 50
    np.testing.assert_allclose(store.index["transform"][0][:6], [90, 0, 500_000, 0, -60, 4_600_000])


def test_bands_of_the_real_patches_are_those_of_the_files(real_data: Path, tmp_path: Path) -> None:
    import rasterio

    from cloud_assets.datasets.cloud38 import Cloud38

    catalog = Cloud38().catalog(real_data, progress=False)
    store = cut(catalog, tmp_path / "s")
    assert len(store) == 36
    assert store.index["official_split"].value_counts().to_dict() == {"train": 23, "validation": 8, "test": 5}
    row = int(np.flatnonzero(store.index["scene_id"].str.contains("SnowIce_11"))[0])
    folder = real_data / "38-cloud" / "38-Cloud_training"
    name = "patch_33_1_by_1_SnowIce_11_1123.TIF"
    for channel, band in enumerate(BANDS):
        with rasterio.open(folder / f"train_{band}" / f"{band}_{name}") as raster:
            np.testing.assert_array_equal(store.array()[row, channel], raster.read(1))
    with rasterio.open(folder / "train_gt" / f"gt_{name}") as raster:
        np.testing.assert_array_equal(store.masks[row] == 1, raster.read(1) == 255)
