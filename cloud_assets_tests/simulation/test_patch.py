from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.errors import InvalidRecipe
from cloud_assets.simulation.clouds import CLEAR_SKY, Sun
from cloud_assets.simulation.ground import GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import (
    SimulatedPatch,
    SimulationRecipe,
    observe,
    patch_generator,
    relief_light,
    simulate_patch,
)
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.simulation.spectra import COMMON_NAMES, SURFACE_NAMES

RGBN = ("red", "green", "blue", "nir")


@pytest.fixture(scope="module")
def patches() -> list[SimulatedPatch]:
    return [simulate_patch(patch_generator(0, number), 96, RGBN) for number in range(60)]


def test_shapes_types_and_ranges(patches: list[SimulatedPatch]) -> None:
    for patch in patches:
        assert patch.reflectance.shape == (4, 96, 96)
        assert patch.reflectance.dtype == np.float32
        assert patch.mask.dtype == np.uint8
        assert np.isfinite(patch.reflectance).all()
        assert 0 <= patch.reflectance.min() <= patch.reflectance.max() < 2
        assert ((patch.mask == UNLABELLED) == ~patch.valid).all()
        assert patch.land_cover.max() < len(SURFACE_NAMES)
        assert patch.cloud_optical_depth.shape == (96, 96)


@pytest.mark.parametrize(("azimuth", "lit", "unlit"), [(0.0, (32, 12), (32, 52)), (np.pi / 2, (12, 32), (52, 32))])
def test_slopes_towards_the_sun_are_brighter(azimuth: float, lit: tuple[int, int], unlit: tuple[int, int]) -> None:
    """A round hill: where shadows point to the right, the sun stands to the left; downwards, at the top."""
    hill = 12 * np.exp(-(((np.mgrid[:64, :64] - 32) ** 2).sum(0)) / 200)
    gradient = np.stack(np.gradient(hill)).astype(np.float32)
    light = relief_light(gradient, Sun(azimuth, 0.6))
    assert light[lit] > 1.1
    assert light[unlit] < 0.8
    assert light[32, 32] == pytest.approx(1, abs=1e-3)


def test_a_slope_is_lit_by_the_cosine_of_its_normal_and_the_sun() -> None:
    """Known answer: a slope at right angles to a sun 30 degrees high gets twice what level ground gets."""
    gradient = np.zeros((2, 4, 4), np.float32)
    gradient[1] = np.sqrt(3)
    np.testing.assert_allclose(relief_light(gradient, Sun(0.0, np.pi / 6)), 2, rtol=1e-5)
    assert not relief_light(-gradient, Sun(0.0, np.pi / 6)).any()


def test_all_classes_and_many_landscapes_and_skies_occur(patches: list[SimulatedPatch]) -> None:
    share = [np.mean([(patch.mask == code).mean() for patch in patches]) for code in range(4)]
    assert share[CLEAR] > 0.25
    assert share[THICK_CLOUD] > 0.15
    assert share[THIN_CLOUD] > 0.05
    assert 0.01 < share[CLOUD_SHADOW] < 0.2
    assert len({patch.biome for patch in patches}) > 12
    assert len({patch.sky for patch in patches}) > 6


def test_clouds_are_brighter_than_what_they_cover(patches: list[SimulatedPatch]) -> None:
    dark_ground = [patch for patch in patches if patch.biome in ("forest", "open water", "boreal forest", "wetland")]
    assert dark_ground
    for patch in dark_ground:
        clear, cloud = patch.mask == CLEAR, patch.mask == THICK_CLOUD
        if clear.sum() > 300 and cloud.sum() > 300:
            assert np.median(patch.reflectance[0][cloud]) > np.median(patch.reflectance[0][clear])


def test_patch_depends_on_seed_and_number_only() -> None:
    one_by_one = [simulate_patch(patch_generator(7, index), 64, RGBN) for index in (2, 0, 1)]
    series = [simulate_patch(patch_generator(7, index), 64, RGBN) for index in (1, 2)]
    np.testing.assert_array_equal(series[0].reflectance, one_by_one[2].reflectance)
    np.testing.assert_array_equal(series[1].reflectance, one_by_one[0].reflectance)
    np.testing.assert_array_equal(series[1].mask, one_by_one[0].mask)
    other = simulate_patch(patch_generator(8, 2), 64, RGBN)
    assert not np.array_equal(other.reflectance, one_by_one[0].reflectance)


def test_threads_do_not_disturb_each_other() -> None:
    def make(index: int) -> np.ndarray:
        return simulate_patch(patch_generator(3, index), 64, RGBN).reflectance

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(make, range(8)))
    for index, reflectance in enumerate(together):
        np.testing.assert_array_equal(reflectance, make(index))


def test_any_height_and_width() -> None:
    patch = simulate_patch(np.random.default_rng(0), (101, 67), ("red",))
    assert patch.reflectance.shape == (1, 101, 67)
    assert patch.mask.shape == patch.land_cover.shape == patch.valid.shape == (101, 67)


def test_unknown_band_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="thermal"):
        simulate_patch(np.random.default_rng(0), 64, ("red", "thermal"))


def test_recipe_survives_json() -> None:
    recipe = SimulationRecipe(ground=GroundRecipe(biomes=("city",)), sun_elevation=(30, 40))
    assert SimulationRecipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_same_ground_on_two_dates_stays_the_same_ground() -> None:
    rng = np.random.default_rng(5)
    ground = simulate_ground(rng, (96, 96), GroundRecipe(biomes=("farmland",)))
    calm = SensorRecipe(saturation_chance=0, wedge_chance=0, blur_chance=0, coarse_chance=0, quantisation_chance=0)
    recipe = SimulationRecipe(clouds=CLEAR_SKY, sensor=calm)
    first, second = (observe(rng, ground, RGBN, recipe) for _ in range(2))
    assert np.corrcoef(first.reflectance[3].ravel(), second.reflectance[3].ravel())[0, 1] > 0.8
    np.testing.assert_array_equal(first.land_cover, second.land_cover)


def test_cirrus_band_of_clear_sky_is_black_and_water_vapour_dims_its_band() -> None:
    recipe = SimulationRecipe(clouds=CLEAR_SKY, ground=GroundRecipe(biomes=("sand desert",)))
    patch = simulate_patch(np.random.default_rng(1), 64, COMMON_NAMES, recipe)
    valid = patch.reflectance[:, patch.valid].mean(1)
    assert valid[COMMON_NAMES.index("cirrus")] < 0.03
    assert valid[COMMON_NAMES.index("nir09")] < 0.8 * valid[COMMON_NAMES.index("nir08")]
