"""Checks of data quality: each must fail on what it is there for, and pass on what is merely unusual."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from cloud_assets.datasets.scene import RasterBand, Scene, SceneCatalog, Skipped
from cloud_assets.orchestration.checks import check_evaluation, check_scenes, check_values
from cloud_assets.patches.statistics import implausible_values
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Gate
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.reports.test_evaluation import make_evaluation

BANDS = ("red", "green", "blue", "nir")
Maker = Callable[..., PatchStore]


def passed(results: list[dg.AssetCheckResult]) -> dict[str, bool]:
    return {str(result.check_name): result.passed for result in results}


def scene(name: str, content: str = "") -> Scene:
    return Scene(name, name, "landsat8_l1", {"B4": RasterBand(f"{name}.tif")}, content_hash=content or name)


def top_of_atmosphere(groups: int, seed: int = 0) -> np.ndarray:
    """Digital numbers (groups, 4, 32, 32) of Sentinel-2 level 1C: dark vegetation under air, some of it under cloud."""
    rng = np.random.default_rng(seed)
    ground = np.array([450, 700, 950, 250])[:, None, None] + rng.gamma(2, 300, (groups, 4, 32, 32))
    ground[: groups // 3] += 5000  # overcast: nothing dark in these groups, as in real data
    return ground.astype(np.uint16)


@pytest.fixture
def store(tmp_path: Path) -> Maker:
    def make(images: np.ndarray, instrument: str = "sentinel2_l1c", bands: tuple[str, ...] = BANDS) -> PatchStore:
        masks = np.zeros((len(images), *images.shape[2:]), np.uint8)
        masks[:, :8] = 1
        return store_arrays(tmp_path / "store", images, masks, bands=bands, instrument=instrument)

    return make


def test_the_right_offset_is_not_remarked_upon(store: Maker) -> None:
    assert implausible_values(store(top_of_atmosphere(12))) == []


def test_a_missing_offset_is_recognised(store: Maker) -> None:
    (problem,) = implausible_values(store(top_of_atmosphere(12) + 1000))
    assert "not to have been applied" in problem
    assert "12 of 12" in problem


def test_a_double_offset_is_recognised(store: Maker) -> None:
    images = np.maximum(top_of_atmosphere(12).astype(np.int64) - 1000, 1).astype(np.uint16)
    (problem,) = implausible_values(store(images))
    assert "applied twice" in problem
    assert "8 of 12" in problem


def test_cirrus_tells_a_missing_offset_of_a_single_scene(store: Maker) -> None:
    """Also under cloud: nothing else makes the cirrus band that bright everywhere."""
    images = np.concatenate([top_of_atmosphere(6), np.full((6, 1, 32, 32), 15, np.uint16)], axis=1)
    images[4] += 1000
    (problem,) = implausible_values(store(images, bands=(*BANDS, "cirrus")))
    assert "1 of 6" in problem


def test_a_closed_cover_of_ice_cloud_is_no_missing_offset(tmp_path: Path) -> None:
    images = np.concatenate([top_of_atmosphere(6), np.full((6, 1, 32, 32), 15, np.uint16)], axis=1)
    images[4] += 2000
    masks = np.zeros((6, 32, 32), np.uint8)
    masks[4] = 1
    bands = (*BANDS, "cirrus")
    patches = store_arrays(tmp_path / "store", images, masks, bands=bands, instrument="sentinel2_l1c")
    assert implausible_values(patches) == []


def test_few_bright_scenes_prove_no_missing_offset(store: Maker) -> None:
    assert implausible_values(store(top_of_atmosphere(3) + 6000)) == []


def test_bands_that_are_not_there_are_no_double_offset(store: Maker) -> None:
    images = top_of_atmosphere(8)
    images[:, 1] = 0
    assert implausible_values(store(images)) == []


def test_linear_power_where_decibels_belong_is_recognised(store: Maker) -> None:
    decibel = np.random.default_rng(0).normal(-12, 3, (4, 2, 16, 16)).astype(np.float32)
    bands = ("VV", "VH")
    assert implausible_values(store(decibel, "sentinel1_grd", bands)) == []


def test_linear_power_is_named(store: Maker) -> None:
    power = 10 ** (np.random.default_rng(0).normal(-12, 3, (4, 2, 16, 16)) / 10)
    (problem,) = implausible_values(store(power.astype(np.float32), "sentinel1_grd", ("VV", "VH")))
    assert "linear power" in problem


def test_eight_bit_numbers_in_a_sixteen_bit_product_are_recognised(store: Maker) -> None:
    images = np.random.default_rng(0).integers(1, 256, (4, 4, 16, 16), np.uint16)
    problems = implausible_values(store(images, "landsat8_l1"))
    assert any("8 bits" in problem for problem in problems)


def test_real_imagery_is_plausible_and_a_wrong_offset_in_it_is_not(real_data: Path, tmp_path: Path) -> None:
    from cloud_assets.datasets.cloudsen12 import CloudSEN12
    from cloud_assets.patches.cutting import cut_patches
    from cloud_assets.patches.recipe import PatchRecipe

    catalog = CloudSEN12().catalog(real_data, cache=tmp_path, progress=False)
    real = cut_patches(catalog, PatchRecipe(bands=BANDS, size=256), tmp_path / "real", progress=False)
    assert implausible_values(real) == []
    images = np.asarray(real.array())
    missing = store_arrays(tmp_path / "missing", images + 1000, bands=BANDS, instrument="sentinel2_l1c")
    assert "not to have been applied" in implausible_values(missing)[0]
    twice = np.where(images > 0, np.maximum(images.astype(np.int64) - 1000, 1), 0).astype(np.uint16)
    double = store_arrays(tmp_path / "double", twice, bands=BANDS, instrument="sentinel2_l1c")
    assert "applied twice" in implausible_values(double)[0]


def test_scenes_that_were_left_out_or_come_twice_are_noticed() -> None:
    good = SceneCatalog("scenes", (scene("a"), scene("b")))
    assert passed(check_scenes(good)) == {"complete": True, "no_twins": True}
    bad = replace(good, scenes=(scene("a", "same"), scene("b", "same")), skipped=(Skipped("c", "damaged"),))
    results = check_scenes(bad)
    assert passed(results) == {"complete": False, "no_twins": False}
    assert "c: damaged" in str(results[0].description)
    assert "b = a" in str(results[1].description)


def test_windows_of_one_file_are_no_twins() -> None:
    halves = [
        replace(scene(name, "file"), bands={"B4": RasterBand("file.tif", 1, (column, 0, 8, 8))})
        for name, column in (("left", 0), ("right", 8))
    ]
    assert passed(check_scenes(SceneCatalog("scenes", tuple(halves))))["no_twins"]


def test_a_scene_that_vanished_between_catalogue_and_patches_is_noticed(store: Maker) -> None:
    patches = store(top_of_atmosphere(4))
    names = patches.index["scene_id"].tolist()
    known = tuple(scene(name) for name in names)
    assert passed(check_values(patches, SceneCatalog("scenes", known)))["every_scene_cut"]
    results = check_values(patches, SceneCatalog("scenes", (*known, scene("lost"))))
    assert not passed(results)["every_scene_cut"]
    assert "lost" in str(results[0].description)


@pytest.mark.parametrize(("cloudy", "balanced"), [(0.5, True), (0.0, False), (0.01, False)])
def test_a_class_that_hardly_occurs_is_noticed(tmp_path: Path, cloudy: float, balanced: bool) -> None:
    masks = np.zeros((4, 20, 20), np.uint8)
    masks.reshape(4, -1)[:, : round(cloudy * 400)] = 1
    images = np.random.default_rng(0).integers(5000, 20000, (4, 4, 20, 20), np.uint16)
    patches = store_arrays(tmp_path / "store", images, masks, bands=BANDS, instrument="landsat8_l1")
    assert passed(check_values(patches, SceneCatalog("scenes", ())))["class_balance"] is balanced


def test_pictures_are_balanced_by_their_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 255, (100, 3, 8, 8), np.uint8)
    labels = ["cloud"] + ["noncloud"] * 99
    patches = store_arrays(
        tmp_path / "store", images, bands=("red", "green", "blue"), instrument="rgb_8bit", labels=labels
    )
    results = check_values(patches, SceneCatalog("pictures", ()))
    assert not passed(results)["class_balance"]
    assert "cloud 1.0%" in str(results[2].description)


@pytest.mark.parametrize(
    ("gate", "value", "good"),
    [
        (Gate(metric="iou"), 0.5, True),
        (Gate(metric="iou"), 0.2, False),
        (Gate(metric="iou", minimum=0.1), 0.2, True),
        (Gate(metric="rmse", mode="min", minimum=0.05), 0.1, False),
        (Gate(metric="unheard_of"), 0.0, True),
    ],
)
def test_the_floor_of_a_metric(gate: Gate, value: float, good: bool) -> None:
    evaluation = make_evaluation(metrics={gate.metric: value})
    assert passed(check_evaluation(evaluation, gate))["metric_floor"] is good
