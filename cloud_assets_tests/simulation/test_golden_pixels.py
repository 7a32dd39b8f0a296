"""Pixels that the simulation gave when its version was last raised: every landscape, every kind of sky, and radar."""

import numpy as np
import pytest

from cloud_assets.bands import CLEAR, INSTRUMENTS
from cloud_assets.simulation import PHYSICS_VERSION
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.ground import BIOMES, GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import SimulationRecipe, observe, patch_generator
from cloud_assets.simulation.radar import simulate_backscatter

GOLDEN_VERSION = 1
GOLDEN = {
    "farmland": (1364.55, 687.75, 100.00, -12.54),
    "dry farmland": (982.62, 707.44, 89.97, -14.35),
    "irrigated desert": (2126.55, 1084.89, 6.51, -14.45),
    "forest": (3978.64, 2933.88, 16.15, -14.84),
    "rain forest": (1420.63, 729.42, 19.88, -15.38),
    "boreal forest": (2447.88, 2886.80, 46.01, -22.38),
    "wetland": (6413.36, 4920.95, 0.00, -14.81),
    "savanna": (530.66, 616.56, 69.10, -19.25),
    "sand desert": (3324.46, 1363.40, 6.60, -20.18),
    "rock desert": (5307.30, 1606.95, 0.00, -15.05),
    "salt flat": (1848.92, 1034.49, 100.00, -19.31),
    "pale quarry": (1715.15, 957.60, 93.49, -15.60),
    "coast": (2174.26, 2073.40, 45.40, -18.49),
    "open water": (1043.80, 1168.13, 49.65, -18.90),
    "turbid water": (944.22, 737.40, 41.62, -19.52),
    "sun glint": (2582.94, 1574.39, 3.73, -20.68),
    "reef": (5977.82, 1399.89, 0.00, -22.78),
    "city": (1385.66, 643.11, 84.11, -10.75),
    "mountains": (2055.42, 854.17, 10.07, -15.51),
    "snowy mountains": (1502.04, 1120.35, 13.63, -16.02),
    "snow field": (3445.07, 1747.33, 18.49, -15.62),
    "snowy land": (3153.91, 3589.89, 35.94, -17.82),
    "thin snow": (2669.59, 2180.79, 77.99, -16.46),
    "frozen lakes": (3116.01, 2042.27, 24.05, -13.95),
    "glacier": (3938.57, 1886.34, 1.17, -14.96),
    "sea ice": (3127.20, 2501.82, 27.73, -20.40),
    "volcano": (6486.83, 1437.87, 0.00, -16.69),
    "ice sheet": (7073.66, 4027.66, 86.37, -14.65),
    "snowy forest": (2502.36, 1111.78, 2.78, -13.94),
}
"""Of each landscape: mean and standard deviation of Sentinel-2 numbers, percent of clear pixels, mean backscatter."""

_SENTINEL2 = INSTRUMENTS["sentinel2_l1c"]
_SKIES = tuple(CloudRecipe().kinds)


def measured(number: int, biome: str) -> tuple[float, float, float, float]:
    rng = patch_generator(0, number)
    sky = _SKIES[number % len(_SKIES)]
    clouds = CloudRecipe.model_validate({kind: float(kind == sky) for kind in _SKIES})
    recipe = SimulationRecipe(ground=GroundRecipe(biomes=(biome,)), clouds=clouds)
    ground = simulate_ground(rng, (48, 48), recipe.ground)
    patch = observe(rng, ground, [band.common_name for band in _SENTINEL2.bands], recipe)
    numbers = _SENTINEL2.to_dn(patch.reflectance).astype(np.float64)
    decibel = simulate_backscatter(rng, ground)
    return float(numbers.mean()), float(numbers.std()), 100 * float((patch.mask == CLEAR).mean()), float(decibel.mean())


@pytest.mark.parametrize(("number", "biome"), enumerate(BIOMES))
def test_other_pixels_need_another_version(number: int, biome: str) -> None:
    # Sums differ a little from machine to machine; another physics differs by more.
    assert measured(number, biome) == pytest.approx(GOLDEN[biome], rel=2e-4, abs=0.1), (
        "The simulation gives other pixels than before. If that is meant, raise PHYSICS_VERSION and GOLDEN_VERSION, "
        f"and replace the numbers of {biome} by these."
    )


def test_the_golden_pixels_are_those_of_this_version() -> None:
    assert PHYSICS_VERSION == GOLDEN_VERSION
    assert set(GOLDEN) == set(BIOMES)
