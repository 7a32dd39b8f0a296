import sys
from types import ModuleType

import numpy as np
import pytest

from cloud_assets import families
from cloud_assets.errors import InvalidData, InvalidModel, InvalidRecipe, NoModelForProduct
from cloud_assets.families.scene_product import SceneProduct
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Window
from cloud_assets.imagery.writing import RasterForm
from cloud_assets.scenes.planning import SceneModels, SceneOptions, plan_scene
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets_tests.made_up_family import MadeUpFamily
from cloud_assets_tests.scenes.fakes import RGBN, make_bundle, write_geotiff


@pytest.fixture
def landsat(tmp_path):
    return open_scene(write_geotiff(tmp_path / "l.tif", np.ones((4, 9, 9), np.uint16)), instrument="landsat8_l1")


@pytest.fixture
def sentinel2(tmp_path):
    return open_scene(write_geotiff(tmp_path / "s.tif", np.ones((4, 9, 9), np.uint16)), instrument="sentinel2_l1c")


def two():
    return make_bundle(task="cloudsen12_segmentation", instrument="sentinel2_l1c"), make_bundle()


def _task(models: SceneModels, source) -> str:
    return models.suited("segmentation", source)[0].card.task


def test_the_model_trained_on_the_scenes_instrument_is_taken(landsat, sentinel2, make_models):
    models = make_models(*two())
    assert _task(models, landsat) == "landsat_segmentation"
    assert _task(models, sentinel2) == "cloudsen12_segmentation"


def test_another_sensors_model_serves_where_the_own_one_lacks_a_band(sentinel2, make_models):
    own = make_bundle(task="cloudsen12_segmentation", instrument="sentinel2_l1c", bands=("B04", "B11"))
    assert _task(make_models(own, make_bundle()), sentinel2) == "landsat_segmentation"
    with pytest.raises(InvalidData, match="B11"):
        make_models(own).suited("segmentation", sentinel2)


def test_no_model_and_two_of_a_family(landsat, make_models):
    anomaly = {"family": "anomaly", "task": "cloud_anomaly", "threshold": None, "out_channels": 4}
    with pytest.raises(InvalidRecipe, match="two anomaly models"):
        make_models(make_bundle(**anomaly), make_bundle(**anomaly))
    with pytest.raises(NoModelForProduct, match="no segmentation model"):
        make_models(make_bundle(**anomaly)).suited("segmentation", landsat)


def test_a_card_without_threshold_is_refused(landsat, make_models):
    with pytest.raises(InvalidModel, match="no decision threshold"):
        make_models(make_bundle(threshold=None)).predictor("segmentation", landsat)


def test_the_plan_changes_with_everything_that_changes_the_answer(landsat, make_models):
    def fingerprint(models: SceneModels, **options) -> str:
        return plan_scene(landsat, models, SceneOptions(**options)).fingerprint

    models = make_models()
    base = fingerprint(models)
    assert base == fingerprint(make_models())
    assert base == fingerprint(models, back_end="torch", device="cpu", batch_megapixels=2, overwrite=True)
    different = [
        fingerprint(models, window=512),
        fingerprint(models, overlap=16),
        fingerprint(models, validity_buffer_metres=0),
        fingerprint(models, products=("mask",)),
        fingerprint(models, test_time_augmentation=True),
        fingerprint(make_models(make_bundle(variant="another"))),
        fingerprint(make_models(make_bundle(details={"cloud_classes": [1], "note": "changed"}))),
    ]
    assert len({base, *different}) == len(different) + 1


def test_a_plan_counts_its_pixels(landsat, make_models):
    plan = plan_scene(landsat, make_models(), SceneOptions())
    assert plan.source.megapixels == pytest.approx(81e-6)
    assert plan.passes == 1
    assert plan.products == ("mask", "probability", "validity", "coverage")
    assert make_bundle().card.bands == RGBN


def test_a_product_of_a_fifth_family_is_planned_made_and_described(tmp_path, monkeypatch):
    """One line in the registry; nothing in the scenes' own modules knows of it."""

    class Family(MadeUpFamily):
        name = "haze"

        def predictor(self, bundle, device="auto", network=None):
            return bundle.card

    def make(work):
        card = work.models.predictor("haze", work.source)
        with work.source.open(card.bands) as reader, work.draft(HAZE) as draft:
            values = reader.read(Window(0, 0, 9, 9))[0].astype(np.float32)
            draft.write(Window(0, 0, 9, 9), values)
        work.statistics["haze"] = float(values.mean())

    HAZE = SceneProduct("haze", "Haze", "haze", make, RasterForm("float32", ("haze",)))  # noqa: N806
    Family.products = (HAZE,)
    module = ModuleType("fifth_family")
    module.FAMILY = Family()
    monkeypatch.setitem(sys.modules, "fifth_family", module)
    monkeypatch.setitem(families.MODULES, "haze", "fifth_family")
    path = write_geotiff(tmp_path / "l.tif", np.full((4, 9, 9), 7000, np.uint16))
    made = predict_scene(make_bundle(family="haze"), path, tmp_path / "out", instrument="landsat8_l1")
    assert set(made.files) == {"haze", "quicklook", "page", "stac"}
    assert made.statistics["haze"] == 7000
    assert ">Haze<" in made.paths["page"].read_text(encoding="utf-8")
    assert '"title": "Haze"' in made.paths["stac"].read_text(encoding="utf-8")
    assert SceneOptions(products=("haze",)).products == ("haze",)
