"""Saturated pixels are completed from the other bands, and nothing else is touched."""

import numpy as np
import pytest

from cloud_assets import load_model, predict_array
from cloud_assets.bands import INSTRUMENTS, THICK_CLOUD, THIN_CLOUD
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.saturation import Saturation
from cloud_assets.imagery.tiling import Window
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets_tests.imagery.layouts import write_landsat

TM = INSTRUMENTS["landsat_tm_toa"]
COLOURS, NAMES = ("red", "green", "blue", "nir"), ("B3", "B2", "B1", "B4")
ENDS = np.array([0.55, 0.5, 0.38, 2.0])[:, None, None]
"""Reflectance at which the bands saturate: near infrared never does."""


@pytest.fixture(scope="module")
def cumulus():
    """Reflectance (4, H, W) and cloud (H, W) of simulated cumulus whose visible bands saturate."""
    sensor = SensorRecipe(saturation_chance=0, wedge_chance=0, quantisation_chance=0, coarse_chance=0)
    recipe = SimulationRecipe(clouds=CloudRecipe(none=0), sensor=sensor)
    patch = simulate_patch(patch_generator(10, 77), 256, COLOURS, recipe)
    return np.clip(patch.reflectance, 0.01, 1.2), np.isin(patch.mask, (THICK_CLOUD, THIN_CLOUD))


def numbers(reflectance, profile=TM):
    return profile.to_dn(reflectance)


def test_a_saturated_band_is_as_bright_as_the_others_say(cumulus):
    reflectance, _ = cumulus
    dn = numbers(np.minimum(reflectance, ENDS))
    saturation = Saturation.of(dn, TM, NAMES)
    completed = TM.to_physical(saturation.completed(dn))
    ends = dn >= TM.to_dn(ENDS)
    np.testing.assert_array_equal(saturation.completed(dn)[~ends], dn[~ends])
    wrong = np.abs(completed / reflectance - 1)[ends]
    assert np.percentile(wrong, 95) < 0.15
    assert np.percentile(np.abs(TM.to_physical(dn) / reflectance - 1)[ends], 50) > 0.3
    assert (completed >= TM.to_physical(dn) - 1e-4).all()


def test_numbers_that_only_mark_saturation_are_replaced(cumulus):
    reflectance, _ = cumulus
    profile = INSTRUMENTS["landsat_tm_l2"]
    dn = np.where(reflectance >= ENDS, 65535, numbers(np.minimum(reflectance, ENDS), profile)).astype(np.uint16)
    dn[:, :8, :8] = 65535
    completed = profile.to_physical(Saturation.of(dn, profile, NAMES).completed(dn))
    assert completed.max() < 1.3
    np.testing.assert_allclose(completed[:, 0, 0], [0.96, 0.925, 0.985, 1.0], atol=1e-3)


@pytest.mark.parametrize("instrument", ["landsat_tm_toa", "landsat8_l1"])
def test_what_is_not_saturated_stays(cumulus, instrument):
    dn = numbers(cumulus[0])
    assert Saturation.of(dn, INSTRUMENTS[instrument], NAMES if "tm" in instrument else ("B4", "B3", "B2", "B5")) is None


def test_no_guess_without_another_band_or_for_pictures_and_dark_scenes(cumulus):
    saturated = numbers(np.minimum(cumulus[0], ENDS))
    assert Saturation.of(saturated[2:3], TM, ("B1",)) is None
    assert Saturation.of(np.full((4, 64, 64), 20_000, np.uint16), TM, NAMES) is None
    dark = np.minimum(saturated, TM.to_dn(0.1))
    assert Saturation.of(dark, TM, NAMES) is None
    picture = np.full((3, 64, 64), 255, np.uint8)
    picture[:, :8] = 40
    assert Saturation.of(picture, INSTRUMENTS["rgb_8bit"], ("red", "green", "blue")) is None


def test_clouds_of_a_landsat_5_scene_are_not_hollow(cumulus, tmp_path):
    reflectance, cloud = cumulus
    options = SceneOptions(test_time_augmentation=False, back_end="torch")
    model = load_model("simulation", device="cpu")
    scene = write_landsat(
        tmp_path, dict(zip(NAMES, np.minimum(reflectance, ENDS), strict=True)), satellite="LANDSAT_5", sun_elevation=90
    )
    source = open_scene(scene)
    with source.open(COLOURS) as reader:
        seen = reader.read(Window(0, 0, *cloud.shape))
        raw = reader.thumbnail(max(cloud.shape))
    found = np.isin(predict_array(model, raw, COLOURS, instrument=source.instrument, options=options)["mask"], (1, 2))
    again = np.isin(predict_array(model, seen, COLOURS, instrument=source.instrument, options=options)["mask"], (1, 2))
    np.testing.assert_array_equal(found, again)
    # Of the same scene without this step the IoU is 0.08, of one that never saturates 0.88.
    assert (found & cloud).sum() / (found | cloud).sum() > 0.75
