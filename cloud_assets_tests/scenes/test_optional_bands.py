"""Scenes that lack a band which their model learnt to do without."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from cloud_assets import load_model
from cloud_assets.bands import cloudy
from cloud_assets.errors import InvalidData
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.scenes.planning import SceneModels, SceneOptions
from cloud_assets.scenes.prediction import predict_array, predict_scene
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, make_card, write_geotiff

BANDS = ("red", "green", "blue", "nir")
OPTIONS = SceneOptions(
    products=("probability",), window=96, overlap=32, back_end="torch", device="cpu", accept_other_level=True
)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    preprocessing = Preprocessing(instrument="landsat8_toa", bands=BANDS, clip=(0, 1.2), optional=("blue", "nir"))
    card = make_card(bands=BANDS, preprocessing=preprocessing, network=UNet(width=4, depth=2))
    torch.manual_seed(0)
    weights = card.network.build(4, 1).state_dict()
    # An untrained network says nearly the same everywhere.
    return ModelBundle(card, {name: 3 * one if one.ndim == 4 else one for name, one in weights.items()})


@pytest.mark.parametrize("missing", ["blue", "nir"])
def test_a_missing_band_is_dark_to_the_network(bundle: ModelBundle, missing: str, tmp_path: Path) -> None:
    place = BANDS.index(missing)
    reflectance = cloudy_reflectance(96, 96)[:4]
    names = [band for band in BANDS if band != missing]
    scene = write_geotiff(tmp_path / "scene.tif", landsat_dn(np.delete(reflectance, place, axis=0)), None)
    models = SceneModels([bundle], OPTIONS)
    made = predict_scene(models, scene, tmp_path / "out", OPTIONS, bands=names, instrument="landsat8_l2")
    with rasterio.open(made.paths["probability"]) as raster:
        lacking = raster.read(1)
    black = reflectance.copy()
    black[place] = 0
    whole = write_geotiff(tmp_path / "whole.tif", landsat_dn(black), None)
    made = predict_scene(models, whole, tmp_path / "out", OPTIONS, bands=BANDS, instrument="landsat8_l2")
    with rasterio.open(made.paths["probability"]) as raster:
        assert np.ptp(lacking) > 5
        np.testing.assert_allclose(raster.read(1).astype(int), lacking, atol=1)
    pixels, valid = bundle.card.preprocessing.without([missing])(landsat_dn(np.delete(reflectance, place, axis=0)))
    assert pixels.shape == (4, 96, 96)
    assert valid.all()
    assert not pixels[place].any()


@pytest.mark.parametrize(("missing", "stand_in"), [("blue", "green"), ("nir", "red")])
def test_another_band_stands_in_for_a_missing_one_and_it_is_said(
    bundle: ModelBundle, missing: str, stand_in: str, tmp_path: Path
) -> None:
    stand_ins = {"blue": "green", "nir": "red"}
    preprocessing = bundle.card.preprocessing.model_copy(update={"stand_ins": stand_ins})
    models = SceneModels([bundle.with_card(preprocessing=preprocessing)], OPTIONS)
    reflectance = cloudy_reflectance(96, 96)[:4]
    place, other = BANDS.index(missing), BANDS.index(stand_in)
    names = [band for band in BANDS if band != missing]
    scene = write_geotiff(tmp_path / "scene.tif", landsat_dn(np.delete(reflectance, place, axis=0)), None)
    lacking = predict_scene(models, scene, tmp_path / "out", OPTIONS, bands=names, instrument="landsat8_l2")
    copied = reflectance.copy()
    copied[place] = copied[other]
    whole = write_geotiff(tmp_path / "whole.tif", landsat_dn(copied), None)
    complete = predict_scene(models, whole, tmp_path / "out", OPTIONS, bands=BANDS, instrument="landsat8_l2")
    masks = []
    for made in (lacking, complete):
        with rasterio.open(made.paths["probability"]) as raster:
            masks.append(raster.read(1))
    assert np.ptp(masks[0]) > 5
    np.testing.assert_array_equal(*masks)
    (said,) = [one for one in lacking.warnings if "no " + missing in one]
    assert f"takes {stand_in} for it" in said
    assert not complete.warnings
    first, second = (
        predict_array(models, landsat_dn(pixels), bands, instrument="landsat8_l2", options=OPTIONS)["mask"]
        for pixels, bands in ((np.delete(reflectance, place, axis=0), names), (copied, BANDS))
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("missing", ["blue", "nir"])
def test_the_model_that_comes_with_the_package_does_without_a_band(missing: str) -> None:
    """Nearly the same clouds are found; with 0 in place of the band a fifth of the pixels and more would change."""
    model = load_model("simulation", device="cpu")
    clouds = CloudRecipe(none=0, stratus=0, veil=0, overcast=0)
    recipe = SimulationRecipe(clouds=clouds, ground=GroundRecipe(biomes=("farmland",)), haze=(0.02, 0.05))
    reflectance = simulate_patch(patch_generator(12, 8), 128, BANDS, recipe).reflectance
    place = BANDS.index(missing)
    names = [band for band in BANDS if band != missing]
    options = SceneOptions(back_end="torch", accept_other_level=True)
    whole = predict_array(model, landsat_dn(reflectance), BANDS, instrument="landsat8_l2", options=options)
    part = landsat_dn(np.delete(reflectance, place, axis=0))
    lacking = predict_array(model, part, names, instrument="landsat8_l2", options=options)
    is_cloud, found = cloudy(whole["mask"]), cloudy(lacking["mask"])
    assert 0.05 < is_cloud.mean() < 0.8
    assert (is_cloud == found).mean() > 0.93


def test_a_picture_has_no_infrared(bundle: ModelBundle) -> None:
    pictures = np.random.default_rng(0).integers(1, 255, (3, 64, 96), dtype=np.uint8)
    answer = predict_array(bundle, pictures, bands=("red", "green", "blue"), instrument="rgb_8bit", options=OPTIONS)
    assert answer["cloud_probability"].shape == (64, 96)


def test_two_missing_bands_are_too_many(bundle: ModelBundle, tmp_path: Path) -> None:
    scene = write_geotiff(tmp_path / "scene.tif", landsat_dn(cloudy_reflectance(96, 96)[:2]), None)
    with pytest.raises(InvalidData, match=r"no band B2 \(blue\), B5 \(nir\)"):
        predict_scene(
            SceneModels([bundle], OPTIONS), scene, tmp_path / "out", OPTIONS, bands=("red", "green"),
            instrument="landsat8_l2",
        )  # fmt: skip
