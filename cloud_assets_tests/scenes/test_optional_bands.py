"""Scenes that lack a band which their model learnt to do without."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from cloud_assets.errors import InvalidData
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.scenes.planning import SceneModels, SceneOptions
from cloud_assets.scenes.prediction import predict_array, predict_scene
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
