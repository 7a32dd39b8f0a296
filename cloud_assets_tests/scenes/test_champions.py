import numpy as np
import pytest

from cloud_assets.errors import InvalidData, InvalidModel, InvalidRecipe, NoModelForProduct
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.planning import plan_scene
from cloud_assets.scenes.scene_models import Champions
from cloud_assets_tests.scenes.fakes import RGBN, make_bundle, write_geotiff


@pytest.fixture
def landsat(tmp_path):
    return open_scene(write_geotiff(tmp_path / "l.tif", np.ones((4, 9, 9), np.uint16)), instrument="landsat8_l1")


@pytest.fixture
def sentinel2(tmp_path):
    return open_scene(write_geotiff(tmp_path / "s.tif", np.ones((4, 9, 9), np.uint16)), instrument="sentinel2_l1c")


def two():
    return make_bundle(task="cloudsen12_segmentation", instrument="sentinel2_l1c"), make_bundle()


def test_the_model_trained_on_the_scenes_instrument_is_taken(landsat, sentinel2, make_champions):
    champions = make_champions(*two())
    assert champions.segmenter(landsat).card.task == "landsat_segmentation"
    assert champions.segmenter(sentinel2).card.task == "cloudsen12_segmentation"


def test_another_sensors_model_serves_where_the_own_one_lacks_a_band(sentinel2, make_champions):
    own = make_bundle(task="cloudsen12_segmentation", instrument="sentinel2_l1c", bands=("B04", "B11"))
    assert make_champions(own, make_bundle()).segmenter(sentinel2).card.task == "landsat_segmentation"
    with pytest.raises(InvalidData, match="B11"):
        make_champions(own).segmenter(sentinel2)


def test_no_model_and_two_of_a_family(landsat, make_champions):
    anomaly = {"family": "anomaly", "task": "cloud_anomaly", "threshold": None, "out_channels": 4}
    with pytest.raises(InvalidRecipe, match="two anomaly models"):
        make_champions(make_bundle(**anomaly), make_bundle(**anomaly))
    with pytest.raises(NoModelForProduct, match="no segmentation model"):
        make_champions(make_bundle(**anomaly)).segmenter(landsat)


def test_a_card_without_threshold_is_refused(make_champions):
    with pytest.raises(InvalidModel, match="no decision threshold"):
        make_champions(make_bundle(threshold=None))


def test_the_plan_changes_with_everything_that_changes_the_answer(landsat, make_champions):
    def fingerprint(champions: Champions, **options) -> str:
        return plan_scene(landsat, champions, SceneOptions(**options)).fingerprint

    champions = make_champions()
    base = fingerprint(champions)
    assert base == fingerprint(make_champions())
    assert base == fingerprint(champions, back_end="torch", device="cpu", batch_megapixels=2, overwrite=True)
    different = [
        fingerprint(champions, window=512),
        fingerprint(champions, overlap=16),
        fingerprint(champions, validity_buffer_metres=0),
        fingerprint(champions, products=("mask",)),
        fingerprint(champions, test_time_augmentation=True),
        fingerprint(make_champions(make_bundle(variant="another"))),
        fingerprint(make_champions(make_bundle(details={"cloud_classes": [1], "note": "changed"}))),
    ]
    assert len({base, *different}) == len(different) + 1


def test_a_plan_counts_its_pixels(landsat, make_champions):
    plan = plan_scene(landsat, make_champions(), SceneOptions())
    assert plan.megapixels == pytest.approx(81e-6)
    assert plan.passes == 1
    assert plan.products == ("mask", "probability", "validity", "coverage")
    assert make_bundle().card.bands == RGBN
