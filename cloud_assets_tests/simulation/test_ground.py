import numpy as np
import pytest

from cloud_assets.simulation.ground import (
    BIOMES,
    VARIED,
    Ground,
    GroundRecipe,
    irrigation_circles,
    parcels,
    river,
    simulate_ground,
)
from cloud_assets.simulation.spectra import COMMON_NAMES, SURFACE_NAMES, SURFACES

SHAPE = (96, 128)


def ground(biome: str, seed: int = 0) -> Ground:
    return simulate_ground(np.random.default_rng(seed), SHAPE, GroundRecipe(biomes=(biome,)))


@pytest.mark.parametrize("biome", list(BIOMES))
def test_every_landscape_covers_the_ground_completely(biome: str) -> None:
    for seed in range(3):
        made = ground(biome, seed)
        assert made.biome == biome
        assert made.shape == SHAPE
        assert made.cover.min() >= -1e-6
        np.testing.assert_allclose(made.cover.sum(0), 1, atol=1e-4)
        assert 0 <= made.moisture.min() <= made.moisture.max() <= 1
        reflectance = made.reflectance(COMMON_NAMES)
        assert reflectance.shape == (13, *SHAPE)
        assert reflectance.dtype == np.float32
        assert 0 < reflectance.min() <= reflectance.max() < 1.8


def test_ice_sheets_are_almost_featureless_and_drawn_only_where_asked_for() -> None:
    def spread(biome: str) -> float:
        pictures = (ground(biome, seed).reflectance(("red",))[0] for seed in range(20))
        return float(np.median([picture.std() / picture.mean() for picture in pictures]))

    assert spread("ice sheet") < 0.01 < 0.03 < spread("snow field")
    assert set(BIOMES) - set(VARIED) == {"ice sheet", "snowy forest"}
    assert GroundRecipe().biomes == VARIED


def test_unknown_landscapes_are_named() -> None:
    with pytest.raises(ValueError, match="moon"):
        GroundRecipe(biomes=("farmland", "moon"))


def test_a_band_is_the_same_alone_and_among_others() -> None:
    made = ground("farmland")
    alone, among = made.reflectance(("nir",)), made.reflectance(("red", "nir", "swir16"))
    np.testing.assert_allclose(alone[0], among[1], rtol=1e-5)


def test_reflectance_is_the_mixture_of_the_surfaces_that_are_there() -> None:
    """Known answer: with a recipe that varies nothing, a pure pixel has the table's value."""
    steady = GroundRecipe(biomes=("open water",), brightness=(1, 1), spectral_jitter=0, texture=(1e-6, 1e-6))
    made = simulate_ground(np.random.default_rng(1), SHAPE, steady)
    red, position = made.reflectance(("red",))[0], COMMON_NAMES.index("red")
    values = [SURFACES[name][position] for name in made.surfaces]
    # The second of a surface's two spectra is up to 18 % brighter or 15 % darker.
    assert 0.84 * min(values) < red.min() <= red.max() < 1.19 * max(values)


def test_land_cover_is_the_prevailing_surface() -> None:
    made = ground("coast", 4)
    names = {SURFACE_NAMES[index] for index in np.unique(made.land_cover())}
    assert names <= set(made.surfaces)


def test_moist_soil_is_darker_and_moist_forest_is_not() -> None:
    even = GroundRecipe(biomes=("rain forest",), texture=(1e-6, 1e-6))
    made = simulate_ground(np.random.default_rng(2), SHAPE, even)
    darkened = {name: 1 - brightness for name, brightness in zip(made.surfaces, made.brightness, strict=True)}
    assert np.ptp(made.moisture) > 0.1
    np.testing.assert_allclose(darkened["red soil"], 0.4 * made.moisture, atol=1e-3)
    np.testing.assert_allclose(darkened["forest"], 0, atol=1e-3)


def test_parcels_are_areas_of_about_the_asked_size() -> None:
    number, border, count = parcels(np.random.default_rng(0), (200, 200), 20.0, border=2.0)
    sizes = np.bincount(number.ravel(), minlength=count)
    assert number.max() < count
    assert 100 < np.median(sizes[sizes > 20]) < 2500
    assert 0.02 < border.mean() < 0.4


def test_irrigation_circles_are_round_and_inside_their_squares() -> None:
    number, inside, count = irrigation_circles(np.random.default_rng(1), (200, 200), 50.0)
    assert number.max() < count
    assert 0.05 < inside.mean() < 0.76
    sizes = np.bincount(number[inside], minlength=count)
    assert sizes.max() <= np.pi * 24.5**2 * 1.05


def test_river_has_about_its_width() -> None:
    share = river(np.random.default_rng(2), (200, 200), 8.0)
    assert share.min() >= 0
    assert share.max() == 1
    assert 0.005 < share.mean() < 0.6


def test_no_surface_reflects_more_than_falls_on_it_and_white_ones_keep_their_colour() -> None:
    recipe = GroundRecipe(biomes=("snow field",), brightness=(1.25, 1.25), spectral_jitter=0.0)
    for seed in range(6):
        spectra = simulate_ground(np.random.default_rng(seed), (32, 32), recipe).spectra
        assert spectra.max() <= 0.98 + 1e-6
        assert (spectra[..., COMMON_NAMES.index("nir")] < 0.97 * spectra[..., COMMON_NAMES.index("red")]).all()
