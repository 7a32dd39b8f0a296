import numpy as np
import pytest
import rasterio

from cloud_assets.errors import InvalidModel, NoModelForProduct
from cloud_assets.families.translation.gap_filling import fill_weight
from cloud_assets.families.translation.products import translated_bands
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets_tests.scenes.fakes import RGBN, landsat_dn, make_bundle, make_card, write_geotiff

SIZE = 220
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
CLOUD = (ROWS - 110) ** 2 + (COLUMNS - 100) ** 2 < 35**2
SMALL = SceneOptions(window=128, overlap=32, feather_metres=90)
TARGET = Preprocessing(instrument="sentinel2_l1c", bands=("B04", "B03", "B02"), clip=(0, 1))


def translation_bundle(**details):
    return make_bundle(
        task="sar_to_optical",
        variant="straight_line",
        family="translation",
        network=UNet(width=2, depth=1),
        bands=("VV", "VH"),
        out_channels=3,
        classes=(),
        threshold=None,
        preprocessing=Preprocessing(instrument="sentinel1_grd", bands=("VV", "VH"), clip=(-25, 0)),
        details=details or {"target": TARGET.model_dump()},
    )


def straight_line(card: ModelCard, dn: np.ndarray) -> dict[str, np.ndarray]:
    """Backscatter in dB is 100 times the brightness of the ground, less 20."""
    assert card.preprocessing.instrument == "sentinel1_grd"
    ground = (dn[:, :1] + 20) / 100
    return {"reflectance": np.concatenate([ground, ground * 0.8, ground * 0.6], axis=1).astype(np.float32)}


@pytest.fixture(scope="module")
def ground():
    field = 0.1 + 0.03 * np.sin(ROWS / 9) * np.cos(COLUMNS / 7) + 0.02 * COLUMNS / SIZE
    return np.stack([field, field * 0.8 + 0.02, field * 0.6 + 0.04, field * 2])


@pytest.fixture
def made(ground, make_models, tmp_path):
    cloudy = np.where(CLOUD, 0.7, ground)
    dn = landsat_dn(cloudy)
    dn[:, :20] = 0
    optical = write_geotiff(tmp_path / "in" / "optical.tif", dn)
    decibel = np.stack([100 * ground[0] - 20, 100 * ground[0] - 26]).astype(np.float32)
    decibel[:, 100:104, 95:99] = np.nan
    radar = write_geotiff(tmp_path / "in" / "radar.tif", decibel, ("VV", "VH"), nodata=None)
    models = make_models(make_bundle(), translation_bundle(), translation=straight_line)
    return predict_scene(models, optical, tmp_path / "out", SMALL, instrument="landsat8_l1", radar=radar)


def test_clouds_are_filled_close_to_the_truth_and_marked(made, ground):
    with rasterio.open(made.paths["cloud_free"]) as raster:
        estimate = raster.read()
        assert raster.descriptions == ("B4 (red)", "B3 (green)", "B2 (blue)")
        assert (raster.scales, raster.offsets, raster.nodata) == ((2e-5,) * 3, (-0.1,) * 3, 0)
        reflectance = estimate * raster.scales[0] + raster.offsets[0]
    with rasterio.open(made.paths["synthetic"]) as raster:
        kind = raster.read(1)
    has_radar = np.ones((SIZE, SIZE), bool)
    has_radar[100:104, 95:99] = False
    filled = CLOUD & has_radar
    assert (kind[filled] == 1).all()
    error = np.sqrt(np.mean((reflectance - ground[:3])[:, filled] ** 2))
    assert error < 0.005
    # Interpolation from the clear surroundings alone knows nothing of the pattern beneath the cloud.
    assert error < 0.3 * ground[:3, filled].std(axis=1).mean()


def test_observed_pixels_stay_as_they_are_and_nodata_too(made, ground):
    with rasterio.open(made.paths["cloud_free"]) as raster:
        estimate = raster.read()
    with rasterio.open(made.paths["synthetic"]) as raster:
        kind = raster.read(1)
    observed = kind == 0
    np.testing.assert_array_equal(estimate[:, observed], landsat_dn(ground[:3])[:, observed])
    assert (kind[:20] == 255).all()
    assert (estimate[:, :20] == 0).all()
    distance = np.sqrt((ROWS - 110) ** 2 + (COLUMNS - 100) ** 2)
    assert (kind[20:][distance[20:] > 35 + 5] == 0).all()
    ring = (distance > 35.8) & (distance < 37.5)
    assert (kind[ring] == 2).all()


def test_a_cloud_without_radar_beneath_it_is_nodata_and_counted(made):
    with rasterio.open(made.paths["synthetic"]) as raster:
        kind = raster.read(1)
    with rasterio.open(made.paths["cloud_free"]) as raster:
        estimate = raster.read()
    assert (kind[100:104, 95:99] == 255).all()
    assert (estimate[:, 100:104, 95:99] == 0).all()
    area = SIZE * (SIZE - 20)
    assert made.statistics["unfilled_fraction"] == pytest.approx(16 / area)
    assert made.statistics["synthetic_fraction"] == pytest.approx(np.isin(kind, (1, 2)).sum() / area)


def test_nobody_can_miss_that_pixels_are_synthetic(made):
    assert any("predicted from radar, not observed" in warning for warning in made.warnings)
    assert "predicted from radar" in made.paths["page"].read_text()
    with rasterio.open(made.paths["cloud_free"]) as raster:
        assert "predicted from radar" in raster.tags()["CLOUD_ASSETS_WARNINGS"]
    assert "sar_to_optical/straight_line" in made.models


def test_the_edge_of_a_filled_area_shows_no_step(made, ground):
    with rasterio.open(made.paths["cloud_free"]) as raster:
        error = raster.read(1) * 2e-5 - 0.1 - ground[0]
    edge = np.abs(np.sqrt((ROWS - 110) ** 2 + (COLUMNS - 100) ** 2) - 36) < 3
    steps = np.abs(np.diff(error, axis=1))[edge[:, 1:] & edge[:, :-1]]
    assert steps.max() < 0.01


def test_no_clear_pixel_at_all_is_said(make_models, tmp_path):
    optical = write_geotiff(tmp_path / "optical.tif", landsat_dn(np.full((4, 64, 64), 0.7)))
    decibel = np.full((2, 64, 64), -10, np.float32)
    radar = write_geotiff(tmp_path / "radar.tif", decibel, ("VV", "VH"), nodata=None)
    models = make_models(make_bundle(), translation_bundle(), translation=straight_line)
    made = predict_scene(models, optical, tmp_path / "out", SMALL, instrument="landsat8_l1", radar=radar)
    assert any("No clear pixel" in warning for warning in made.warnings)
    with rasterio.open(made.paths["cloud_free"]) as raster:
        np.testing.assert_allclose(raster.read(1) * 2e-5 - 0.1, 0.1, atol=1e-4)


def test_radar_on_another_grid_is_resampled(ground, make_models, tmp_path):
    optical = write_geotiff(tmp_path / "optical.tif", landsat_dn(np.where(CLOUD, 0.7, ground)))
    coarse = ground[0].reshape(110, 2, 110, 2).mean(axis=(1, 3))
    decibel = np.stack([100 * coarse - 20] * 2).astype(np.float32)
    radar = write_geotiff(tmp_path / "radar.tif", decibel, ("VV", "VH"), metres=60, nodata=None)
    models = make_models(make_bundle(), translation_bundle(), translation=straight_line)
    made = predict_scene(models, optical, tmp_path / "out", SMALL, instrument="landsat8_l1", radar=radar)
    with rasterio.open(made.paths["cloud_free"]) as raster:
        found = raster.read(1) * 2e-5 - 0.1
    assert np.sqrt(np.mean((found - ground[0])[CLOUD] ** 2)) < 0.008


def test_a_radar_scene_is_found_beside_its_partner_by_its_name(ground, make_models, tmp_path):
    optical = write_geotiff(tmp_path / "place.tif", landsat_dn(np.where(CLOUD, 0.7, ground)))
    decibel = np.stack([100 * ground[0] - 20] * 2).astype(np.float32)
    write_geotiff(tmp_path / "place_s1.tif", decibel, ("VV", "VH"), nodata=None)
    models = make_models(make_bundle(), translation_bundle(), translation=straight_line)
    assert "cloud_free" in predict_scene(models, optical, tmp_path / "out", SMALL, instrument="landsat8_l1").files


def test_a_cloud_free_estimate_needs_a_radar_model(ground, make_models, tmp_path):
    optical = write_geotiff(tmp_path / "optical.tif", landsat_dn(ground))
    decibel = np.full((2, SIZE, SIZE), -10, np.float32)
    radar = write_geotiff(tmp_path / "radar.tif", decibel, ("VV", "VH"), nodata=None)
    options = SceneOptions(products=("cloud_free",))
    with pytest.raises(NoModelForProduct, match="no translation model"):
        predict_scene(make_models(), optical, tmp_path / "out", options, instrument="landsat8_l1", radar=radar)


def test_a_card_that_does_not_say_what_it_predicts_is_refused():
    with pytest.raises(InvalidModel, match="target: Field required"):
        translated_bands(translation_bundle(something="else").card)
    assert translated_bands(translation_bundle().card) == ("red", "green", "blue")


def test_weights_fall_smoothly_from_the_clouds_edge():
    codes = np.zeros((1, 40), np.uint8)
    codes[0, :10] = 1
    codes[0, 30:] = 255
    weights = fill_weight(codes, 8, 8.0)[0]
    assert (weights[:10] == 1).all()
    assert (np.diff(weights[9:19]) < 0).all()
    assert (weights[18:] == 0).all()
    np.testing.assert_array_equal(fill_weight(codes, 0, 0.0)[0], codes[0] == 1)


def test_the_fake_cards_are_of_their_families():
    assert translation_bundle().card.family == "translation"
    assert make_card().bands == RGBN
