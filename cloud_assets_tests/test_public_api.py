import doctest
import subprocess
import sys

import numpy as np
import pytest
import rasterio

import cloud_assets
from cloud_assets import load_model, predict_array, predict_scene
from cloud_assets.errors import InvalidRecipe
from cloud_assets.lifecycle import model_references
from cloud_assets.scenes import prediction
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, make_bundle, write_geotiff


def test_the_package_and_its_tasks_load_neither_torch_nor_dagster_nor_mlflow():
    code = (
        "import sys, cloud_assets\n"
        "assert {name for name in sys.modules if name.startswith('cloud_assets.')} == {'cloud_assets.version'}\n"
        "assert 'landsat_segmentation' in cloud_assets.TASKS\n"
        "assert not {'torch', 'dagster', 'mlflow'} & set(sys.modules)\n"
        "from cloud_assets import load_model, predict_array, predict_scene\n"
        "assert not {'torch', 'dagster', 'mlflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_there_is_nothing_else():
    assert set(dir(cloud_assets)) == {
        "TASKS",
        "__version__",
        "load_model",
        "predict_array",
        "predict_dataarray",
        "predict_scene",
    }
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        getattr(cloud_assets, "predict")  # noqa: B009


@pytest.mark.parametrize("module", [model_references, prediction])
def test_the_examples_run(module):
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_a_model_folder_a_patch_an_array_and_a_scene_give_one_mask(tmp_path):
    make_bundle().save(tmp_path / "model")
    model = load_model(tmp_path / "model", device="cpu")
    dn = landsat_dn(cloudy_reflectance(40, 56))
    path = write_geotiff(tmp_path / "scene.tif", dn)
    options = SceneOptions(overlap=0, back_end="torch")
    of_array = predict_array(model, dn, options=options)["mask"]
    made = predict_scene(model, path, tmp_path / "out", options, instrument="landsat8_l1")
    with rasterio.open(made.paths["mask"]) as raster:
        of_scene = raster.read(1)
    np.testing.assert_array_equal(of_array, model.predict(dn[np.newaxis])["mask"][0])
    np.testing.assert_array_equal(of_scene, of_array)
    assert made.back_end.startswith("torch")


def test_an_unknown_model_is_named():
    with pytest.raises(InvalidRecipe, match="'nowhere' is neither the folder of a trained model nor models:/"):
        load_model("nowhere")
