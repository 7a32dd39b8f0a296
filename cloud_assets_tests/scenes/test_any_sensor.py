"""A model of the variant unet_any_sensor on scenes of instruments that it was not trained on."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.scenes.planning import SceneModels, SceneOptions
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets.tasks.landsat_segmentation import TASK
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, make_card, write_geotiff

RECIPE = TASK.variants["unet_any_sensor"]
BANDS = ("red", "green", "nir")
SIZE = 96
OPTIONS = SceneOptions(products=("mask", "probability"), window=96, overlap=32, back_end="torch", device="cpu")


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    settings = RECIPE.model_dump(mode="json")
    assert tuple(settings["bands"]) == BANDS
    preprocessing = Preprocessing(
        instrument="landsat8_l1",
        bands=BANDS,
        clip=tuple(settings["clip"]),
        normalisation=settings["normalisation"],
    )
    card = make_card(
        bands=BANDS, preprocessing=preprocessing, variant="unet_any_sensor", network=UNet(width=4, depth=2)
    )
    torch.manual_seed(0)
    weights = card.network.build(3, 1).state_dict()
    # An untrained network says nearly the same everywhere.
    return ModelBundle(card, {name: 3 * one if one.ndim == 4 else one for name, one in weights.items()})


def probability(bundle: ModelBundle, scene: Path, out: Path, instrument: str | None) -> np.ndarray:
    products = predict_scene(SceneModels([bundle], OPTIONS), scene, out, OPTIONS, bands=BANDS, instrument=instrument)
    with rasterio.open(products.paths["probability"]) as raster:
        return raster.read(1, masked=True).astype(np.float32)


def test_the_same_ground_seen_by_other_sensors_gives_the_same_answer(bundle: ModelBundle, tmp_path: Path) -> None:
    reflectance = cloudy_reflectance(SIZE, SIZE)[:3] * 0.9
    landsat = write_geotiff(tmp_path / "landsat.tif", landsat_dn(reflectance), None)
    dn = np.rint(reflectance * 10_000).astype(np.uint16)
    sentinel = write_geotiff(tmp_path / "sentinel.tif", dn, None, metres=10)
    dimmer = write_geotiff(tmp_path / "dimmer.tif", np.rint(dn * 0.8 + 150).astype(np.uint16), None, metres=10)
    own = probability(bundle, landsat, tmp_path / "out1", "landsat8_l1")
    assert np.ptp(own) > 20
    for name, scene in (("out2", sentinel), ("out3", dimmer)):
        other = probability(bundle, scene, tmp_path / name, "sentinel2_l1c")
        np.testing.assert_allclose(other.filled(-1), own.filled(-1), atol=0.03 * float(np.ptp(own)) + 1.0)


def test_nodata_does_not_change_the_rest(bundle: ModelBundle) -> None:
    dn = landsat_dn(cloudy_reflectance(64, 64)[:3])[np.newaxis]
    holes = dn.copy()
    holes[..., :8] = 0
    pixels, valid = bundle.card.preprocessing(holes)
    assert not valid[0, :, :8].any()
    inside = pixels[0][:, valid[0]]
    np.testing.assert_allclose(inside.mean(axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(inside.std(axis=1), 1, atol=1e-2)
    assert not pixels[0][:, ~valid[0]].any()
