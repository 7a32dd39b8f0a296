"""Checks of products: each must fail on what it is there for, and on nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets.scenes.product_checks import CLOUD_COVER, GEOREFERENCE, NODATA, Finding, check_products
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, write_geotiff

HEIGHT, WIDTH = 150, 210


@pytest.fixture
def made(make_models, tmp_path: Path) -> SceneProducts:
    dn = landsat_dn(cloudy_reflectance(HEIGHT, WIDTH))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    dn[:, rows + 2 * columns < 90] = 0
    scene = write_geotiff(tmp_path / "in" / "LC08_L1TP_193028_20230615_20230615_02_T1.tif", dn)
    return predict_scene(make_models(), scene, tmp_path / "out", SceneOptions(window=128))


def failing(products: SceneProducts) -> dict[str, str]:
    found: tuple[Finding, ...] = check_products(products)
    assert [one.check for one in found] == [CLOUD_COVER, GEOREFERENCE, NODATA]
    return {one.check: one.said for one in found if not one.passed}


def rewrite(path: Path, change, **profile) -> None:
    """Replaces a raster by a changed one."""
    with rasterio.open(path) as raster:
        pixels, kept = raster.read(), {**raster.profile, "driver": "GTiff", **profile}
    with rasterio.open(path, "w", **kept) as raster:
        raster.write(change(pixels))


def same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def test_good_products_pass(made: SceneProducts) -> None:
    assert failing(made) == {}


def test_products_at_a_coarser_resolution_pass(made: SceneProducts, make_models, tmp_path: Path) -> None:
    coarse = SceneOptions(window=128, resolution_metres=70)
    again = predict_scene(make_models(), Path(made.source), tmp_path / "coarse", coarse)
    assert failing(again) == {}


def test_a_mask_that_was_changed_is_noticed(made: SceneProducts) -> None:
    def wiped(pixels: np.ndarray) -> np.ndarray:
        return np.where(pixels == 1, 0, pixels).astype(np.uint8)

    rewrite(made.paths["mask"], wiped)
    found = failing(made)
    assert set(found) == {CLOUD_COVER}
    assert "the file was changed since" in found[CLOUD_COVER]


@pytest.mark.parametrize(
    ("attributes", "statistics", "said"),
    [
        ({"stated_cloud_percentage": "99.5"}, {}, "according to the scene's own metadata"),
        ({}, {"classifier_cloud_percentage": 88.0}, "according to the classifier"),
    ],
)
def test_another_estimate_that_is_far_off_is_noticed(made: SceneProducts, attributes, statistics, said: str) -> None:
    assert made.statistics["cloud_percentage"] < 35
    doubted = replace(made, attributes=attributes, statistics={**made.statistics, **statistics})
    assert said in failing(doubted)[CLOUD_COVER]
    unknown = replace(made, attributes={"stated_cloud_percentage": "-1"})
    assert failing(unknown) == {}


def test_a_scene_that_is_all_cloud_is_suspicious(make_models, tmp_path: Path) -> None:
    dn = np.full((4, 40, 40), 40_000, np.uint16)
    scene = write_geotiff(tmp_path / "LC08_L1TP_193028_20230615_20230615_02_T1.tif", dn)
    found = failing(predict_scene(make_models(), scene, tmp_path / "out", SceneOptions(window=64)))
    assert set(found) == {CLOUD_COVER}
    assert "100.0 % cloud" in found[CLOUD_COVER]


def test_a_scene_without_a_pixel_is_no_reason_to_worry(make_models, tmp_path: Path) -> None:
    dn = np.zeros((4, 40, 40), np.uint16)
    scene = write_geotiff(tmp_path / "LC08_L1TP_193028_20230615_20230615_02_T1.tif", dn)
    assert failing(predict_scene(make_models(), scene, tmp_path / "out", SceneOptions(window=64))) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crs": "EPSG:32634"}, "probability is in EPSG:32634, the scene in EPSG:32633"),
        ({"transform": rasterio.Affine(30, 0, 500_060, 0, -30, 4_600_000)}, "probability lies 2.00 of its pixels off"),
        ({"transform": rasterio.Affine(31, 0, 500_000, 0, -31, 4_600_000)}, "probability lies"),
    ],
)
def test_a_product_that_lies_elsewhere_is_noticed(made: SceneProducts, change, said: str) -> None:
    rewrite(made.paths["probability"], same, **change)
    found = failing(made)
    assert set(found) == {GEOREFERENCE}
    assert found[GEOREFERENCE].startswith(said)


@pytest.mark.parametrize(("value", "where"), [(255, np.s_[:, 80:100, 100:120]), (30, np.s_[:, :25, :25])])
def test_nodata_in_the_wrong_place_is_noticed(made: SceneProducts, value: int, where: tuple[slice, ...]) -> None:
    def holed(pixels: np.ndarray) -> np.ndarray:
        pixels[where] = value
        return pixels

    rewrite(made.paths["probability"], holed)
    found = failing(made)
    assert set(found) == {NODATA}
    assert found[NODATA].startswith("probability: ")


def test_a_scene_that_was_taken_away_cannot_be_checked(made: SceneProducts) -> None:
    shutil.rmtree(Path(made.source).parent)
    assert set(failing(made)) == {CLOUD_COVER, GEOREFERENCE, NODATA}
