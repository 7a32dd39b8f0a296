"""All families of models with their real predictors, untrained and tiny, on one Sentinel-2 product and its radar."""

import numpy as np
import pytest
import rasterio
import torch

from cloud_assets.inference.bundle import ModelBundle, Threshold
from cloud_assets.networks.specifications import Classifier, ConvAutoencoder, ResNetGenerator, UNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.scenes.planning import SceneModels, SceneOptions
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets_tests.imagery.layouts import CORNER, write_safe
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, make_card, write_geotiff

SIZE = 144
RGB = ("B04", "B03", "B02")
SCALED = {"clip": (0.0, 1.0), "scaled_to": (-1.0, 1.0)}


def bundles() -> list[ModelBundle]:
    target = Preprocessing(instrument="sentinel2_l1c", bands=RGB, **SCALED)
    cards = [
        make_card("sentinel2_l1c", RGB, task="cloudsen12_segmentation", network=UNet(width=2, depth=2)),
        make_card(
            "sentinel2_l1c",
            RGB,
            task="coverage_classification",
            family="classification",
            network=Classifier(backbone="test_resnet", input_size=48),
            classes=("clear", "scattered", "broken", "overcast"),
            patch_size=48,
            threshold=None,
            details={"input_size": 48, "minimum_valid": 0.2, "boundaries": [25.0, 50.0, 75.0]},
        ),
        make_card(
            task="cloud_anomaly",
            family="anomaly",
            network=ConvAutoencoder(width=8),
            preprocessing=Preprocessing(instrument="rgb_8bit", bands=("red", "green", "blue")),
            bands=("red", "green", "blue"),
            classes=("normal", "anomalous", "none"),
            patch_size=48,
            threshold=Threshold(value=0.3, method="test", unit="rmse"),
            details={"score": "rmse", "input_size": 48, "latent": {"mean": [0.0] * 8, "std": [1.0] * 8}},
        ),
        make_card(
            task="sar_to_optical",
            family="translation",
            network=ResNetGenerator(width=4, blocks=1),
            preprocessing=Preprocessing(
                instrument="sentinel1_grd", bands=("VV", "VH"), clip=(-25, 0), scaled_to=(-1, 1)
            ),
            bands=("VV", "VH"),
            classes=("red", "green", "blue"),
            threshold=None,
            details={"target": target.model_dump(mode="json")},
        ),
    ]
    torch.manual_seed(0)
    return [ModelBundle(card, card.network.build(card.in_channels, card.out_channels).state_dict()) for card in cards]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    reflectance = cloudy_reflectance(SIZE, SIZE)
    reflectance[:, :, :20] = 0
    safe = write_safe(folder, dict(zip((*RGB, "B08"), reflectance, strict=True)))
    decibel = np.random.default_rng(0).normal(-12, 3, (2, SIZE, SIZE)).astype(np.float32)
    radar = folder / f"{safe.name.removesuffix('.SAFE')}_s1.tif"
    write_geotiff(radar, decibel, ("VV", "VH"), crs="EPSG:32632", metres=10, corner=CORNER, nodata=None)
    options = SceneOptions(window=96, overlap=32, back_end="torch", device="cpu")
    return predict_scene(SceneModels(bundles(), options), safe, folder / "out", options)


def test_every_product_is_made(made):
    rasters = {"mask", "probability", "validity", "coverage", "anomaly", "cloud_free", "synthetic"}
    assert set(made.files) == rasters | {"quicklook", "page", "stac"}
    assert [name.partition("/")[0] for name in made.models] == [
        "cloudsen12_segmentation",
        "coverage_classification",
        "cloud_anomaly",
        "sar_to_optical",
    ]
    assert made.attributes["processing_baseline"] == "05.10"


@pytest.mark.parametrize("product", ["mask", "anomaly", "cloud_free", "synthetic"])
def test_nodata_is_where_the_scene_has_none(made, product):
    with rasterio.open(made.paths[product]) as raster:
        is_nodata = raster.dataset_mask() == 0
    assert is_nodata[:, :20].all()
    assert not is_nodata[:, 20:].any()


def test_statistics_of_every_family_are_there(made):
    wanted = {"cloud_percentage", "classifier_cloud_percentage", "anomaly_score", "synthetic_fraction"}
    assert wanted <= set(made.statistics)
    assert 0 <= made.statistics["anomaly_score"] < 1
