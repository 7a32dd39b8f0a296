from dataclasses import replace

import numpy as np
import pytest

from cloud_assets.simulation.ground import Ground, GroundRecipe, simulate_ground
from cloud_assets.simulation.radar import BACKSCATTER_DB, RadarRecipe, simulate_backscatter

QUIET = RadarRecipe(wind_db=(0, 0), calibration_db=0, noise_floor_db=(-60, -60), slope_gain=0)


def plain(surface: str, moisture: float = 0.0, gradient: float = 0.0) -> Ground:
    shape = (128, 128)
    return Ground(
        biome="test",
        surfaces=(surface,),
        cover=np.ones((1, *shape), np.float32),
        brightness=np.ones((1, *shape), np.float32),
        variation=np.zeros(shape, np.float32),
        spectra=np.full((1, 2, 13), 0.1, np.float32),
        gradient=np.full((2, *shape), gradient, np.float32),
        moisture=np.full(shape, moisture, np.float32),
        pixel_metres=10,
    )


def mean_db(ground: Ground, recipe: RadarRecipe = QUIET) -> np.ndarray:
    decibel = simulate_backscatter(np.random.default_rng(0), ground, recipe)
    return 10 * np.log10((10 ** (decibel / 10)).mean((1, 2)))


@pytest.mark.parametrize("surface", ["forest", "crop", "town", "sand"])
def test_mean_power_is_the_table_s(surface: str) -> None:
    np.testing.assert_allclose(mean_db(plain(surface)), BACKSCATTER_DB[surface], atol=0.15)


def test_speckle_has_the_variance_of_its_looks() -> None:
    decibel = simulate_backscatter(np.random.default_rng(1), plain("forest"), QUIET)
    power = 10 ** (decibel[0] / 10)
    assert power.mean() ** 2 / power.var() == pytest.approx(4.4, rel=0.06)


def test_wet_soil_and_slopes_towards_the_sensor_are_brighter() -> None:
    dry, wet = mean_db(plain("soil")), mean_db(plain("soil", moisture=1.0))
    assert 3 < wet[0] - dry[0] < 8
    assert mean_db(plain("forest", moisture=1.0))[0] == pytest.approx(mean_db(plain("forest"))[0], abs=0.01)
    tilted = RadarRecipe(**(QUIET.model_dump() | {"slope_gain": 1.0}))
    assert mean_db(plain("forest", gradient=0.3), tilted)[0] > mean_db(plain("forest", gradient=-0.3), tilted)[0] + 1


def test_cross_polarisation_is_weaker_and_values_stay_in_range() -> None:
    ground = simulate_ground(np.random.default_rng(2), (128, 128), GroundRecipe(biomes=("coast",)))
    decibel = simulate_backscatter(np.random.default_rng(3), ground)
    assert decibel.shape == (2, 128, 128)
    assert decibel.dtype == np.float32
    assert decibel[0].mean() > decibel[1].mean() + 3
    assert -30 <= decibel.min() <= decibel.max() <= 5


def test_radar_and_optics_see_the_same_ground() -> None:
    """Open water is dark in both, the town bright in both."""
    shape = (128, 128)
    left = np.zeros(shape, np.float32)
    left[:, :64] = 1
    ground = replace(
        plain("water"),
        surfaces=("water", "town"),
        cover=np.stack([left, 1 - left]),
        brightness=np.ones((2, *shape), np.float32),
        spectra=np.stack([np.full((2, 13), 0.02, np.float32), np.full((2, 13), 0.2, np.float32)]),
    )
    decibel, red = simulate_backscatter(np.random.default_rng(4), ground), ground.reflectance(("red",))[0]
    assert red[:, :64].max() < red[:, 64:].min()
    assert decibel[0][:, :64].mean() < decibel[0][:, 64:].mean() - 8
