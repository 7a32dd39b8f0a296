"""Coverage by the classifier and the anomaly map."""

import numpy as np
import pytest
import rasterio

from cloud_assets.families.classification.products import classify_cells, percentage_of_classes
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.inference.bundle import ModelCard, Threshold
from cloud_assets.networks.specifications import UNet
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets_tests.scenes.conftest import FakePredictor
from cloud_assets_tests.scenes.fakes import RGBN, cloudy_reflectance, landsat_dn, make_bundle, make_card, write_geotiff

HEIGHT, WIDTH = 150, 230
SMALL = SceneOptions(window=128, overlap=32)


@pytest.fixture
def scene(tmp_path):
    dn = landsat_dn(cloudy_reflectance(HEIGHT, WIDTH))
    dn[:, :, :70] = 0
    return write_geotiff(tmp_path / "in" / "a.tif", dn)


def classification_bundle():
    return make_bundle(
        task="coverage_classification",
        variant="counter",
        family="classification",
        classes=("clear", "scattered", "broken", "overcast"),
        patch_size=64,
        threshold=None,
        details={"boundaries": [25.0, 50.0, 75.0], "input_size": 64, "minimum_valid": 0.2},
    )


def count_bright(card: ModelCard, dn: np.ndarray) -> dict[str, np.ndarray]:
    """Coverage class of patches, 255 where less than a fifth is valid: what the real predictor promises."""
    assert dn.shape[1:] == (4, 64, 64)
    valid = (dn != 0).any(axis=1)
    bright = ((dn * 2e-5 - 0.1).mean(axis=1) >= 0.3) & valid
    share = 100 * bright.sum(axis=(1, 2)) / np.maximum(valid.sum(axis=(1, 2)), 1)
    classes = np.digitize(share, [25, 50, 75])
    return {"class": np.where(valid.mean(axis=(1, 2)) < 0.2, 255, classes).astype(np.uint8)}


def test_the_classifier_is_asked_cell_by_cell(scene, make_models, tmp_path):
    models = make_models(make_bundle(), classification_bundle(), classification=count_bright)
    made = predict_scene(models, scene, tmp_path / "out", SMALL, instrument="landsat8_l1")
    with rasterio.open(scene) as raster:
        dn = raster.read()
    with rasterio.open(made.paths["coverage"]) as raster:
        classes, percentage = raster.read()
    assert classes.shape == (3, 4)
    assert (classes[:, 0] == 255).all()
    assert (percentage[:, 0] == 255).all()
    for row in range(2):
        for column in range(1, 3):
            cell = dn[np.newaxis, :, row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
            assert classes[row, column] == count_bright(make_card(), cell)["class"][0]
    known = classes[classes != 255]
    expected = np.array([12.5, 37.5, 62.5, 87.5])[known].mean()
    assert made.statistics["classifier_cloud_percentage"] == pytest.approx(expected)
    assert made.statistics["classifier_coverage_class"] == np.digitize(expected, [25, 50, 75])
    assert set(made.models) == {"landsat_segmentation/brightness", "coverage_classification/counter"}


def test_a_classifier_alone_gives_classes_without_percentages(scene, make_models, tmp_path):
    models = make_models(classification_bundle(), classification=count_bright)
    made = predict_scene(models, scene, tmp_path / "out", SMALL, instrument="landsat8_l1")
    assert set(made.files) == {"coverage", "quicklook", "page", "stac"}
    with rasterio.open(made.paths["coverage"]) as raster:
        classes, percentage = raster.read()
    assert (percentage == 255).all()
    assert (classes != 255).any()


def test_the_last_cells_are_filled_up_by_reflection(scene):
    shapes = []

    def note(card, dn):
        shapes.append(dn.shape)
        return {"class": np.zeros(len(dn), np.uint8)}

    source = open_scene(scene, instrument="landsat8_l1")
    with source.open(RGBN) as reader:
        classes = classify_cells(reader, source.grid, FakePredictor(make_card(), note), 64, workers=2)
    assert set(shapes) == {(1, 4, 64, 64)}
    assert len(shapes) == 9, "the cells without a valid pixel are not asked about"
    assert (classes[:, 1:] == 0).all()


def test_no_cell_known_is_no_percentage():
    assert np.isnan(percentage_of_classes(np.full((2, 2), 255, np.uint8), (25.0, 50.0, 75.0)))


def anomaly_bundle(threshold: float | None = 0.25):
    return make_bundle(
        task="cloud_anomaly",
        variant="brightness",
        family="anomaly",
        network=UNet(width=2, depth=1),
        bands=("red", "green", "blue"),
        patch_size=64,
        classes=(),
        out_channels=3,
        threshold=None if threshold is None else Threshold(value=threshold, method="fixed", unit="brightness"),
        details={"input_size": 64},
    )


def brightness(card: ModelCard, dn: np.ndarray) -> dict[str, np.ndarray]:
    assert dn.shape[1:] == (3, 64, 64)
    reflectance = (dn * 2e-5 - 0.1).mean(axis=1).astype(np.float32)
    valid = (dn != 0).any(axis=1)
    values = np.where(valid, reflectance, np.nan)
    return {"score": np.nanmean(values, axis=(1, 2)), "error_map": values, "is_anomaly": np.zeros(len(dn), bool)}


def test_the_anomaly_map_is_blended_from_windows_of_the_models_own_size(scene, make_models, tmp_path):
    models = make_models(anomaly_bundle(), anomaly=brightness)
    made = predict_scene(models, scene, tmp_path / "out", SMALL, instrument="landsat8_l1")
    assert set(made.files) == {"anomaly", "quicklook", "page", "stac"}
    with rasterio.open(scene) as raster:
        expected = (raster.read([1, 2, 3]) * 2e-5 - 0.1).mean(axis=0)
    with rasterio.open(made.paths["anomaly"]) as raster:
        found = raster.read(1)
        assert np.isnan(raster.nodata)
    assert np.isnan(found[:, :70]).all()
    np.testing.assert_allclose(found[:, 70:], expected[:, 70:], atol=1e-5)


def test_scores_of_the_windows_are_summed_up(scene, make_models, tmp_path):
    made = predict_scene(
        make_models(anomaly_bundle(), anomaly=brightness),
        scene,
        tmp_path / "out",
        SMALL,
        instrument="landsat8_l1",
    )
    statistics = made.statistics
    assert 0.08 < statistics["anomaly_score"] < statistics["anomaly_score_highest"] < 0.8
    assert 0 <= statistics["anomalous_fraction"] <= 1
    without = predict_scene(
        make_models(anomaly_bundle(threshold=None), anomaly=brightness),
        scene,
        tmp_path / "out2",
        SMALL,
        instrument="landsat8_l1",
    )
    assert "anomalous_fraction" not in without.statistics


def test_all_families_work_together_on_one_scene(scene, make_models, tmp_path):
    models = make_models(
        make_bundle(), classification_bundle(), anomaly_bundle(), classification=count_bright, anomaly=brightness
    )
    made = predict_scene(models, scene, tmp_path / "out", SMALL, instrument="landsat8_l1")
    assert {"mask", "probability", "validity", "coverage", "anomaly"} <= set(made.files)
    assert len(made.models) == 3
