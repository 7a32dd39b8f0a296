import numpy as np
import pytest

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidRecipe
from cloud_assets.simulation import spectra
from cloud_assets.simulation.ground import BIOMES, TEXTURE
from cloud_assets.simulation.radar import BACKSCATTER_DB


def at(surface: str, band: str) -> float:
    return spectra.SURFACES[surface][spectra.COMMON_NAMES.index(band)]


def test_bands_are_those_of_sentinel_2_in_its_order() -> None:
    assert tuple(band.common_name for band in INSTRUMENTS["sentinel2_l1c"].bands) == spectra.COMMON_NAMES
    for wavelength, band in zip(spectra.WAVELENGTHS_NM, INSTRUMENTS["sentinel2_l1c"].bands, strict=True):
        assert wavelength == pytest.approx(band.wavelength_nm, rel=0.02)


def test_every_landscape_names_known_surfaces() -> None:
    for biome in BIOMES.values():
        for name in (*biome.surfaces, *biome.parcels, *biome.water):
            assert name in spectra.SURFACES
    assert set(TEXTURE) == set(BACKSCATTER_DB) == set(spectra.SURFACES)


@pytest.mark.parametrize("surface", spectra.SURFACE_NAMES)
def test_reflectance_is_physical(surface: str) -> None:
    assert len(spectra.SURFACES[surface]) == len(spectra.COMMON_NAMES)
    assert 0 < min(spectra.SURFACES[surface]) <= max(spectra.SURFACES[surface]) <= 1


def test_indices_tell_surfaces_apart_as_in_nature() -> None:
    def index(surface: str, one: str, other: str) -> float:
        return (at(surface, one) - at(surface, other)) / (at(surface, one) + at(surface, other))

    for green in ("forest", "conifer", "crop", "grass"):
        assert index(green, "nir", "red") > 0.6
    for bare in ("soil", "sand", "rock", "town", "salt"):
        assert abs(index(bare, "nir", "red")) < 0.3
    for white in ("snow", "old snow", "ice"):
        assert index(white, "green", "swir16") > 0.4  # the snow index
    for wet in ("water", "green water", "turbid water", "lagoon"):
        assert index(wet, "green", "nir") > 0.3  # the water index


def test_water_vapour_hides_the_ground_in_the_cirrus_band_only() -> None:
    through = np.exp(-np.array(spectra.SPECTRA["vapour_depth"]))
    assert through[spectra.COMMON_NAMES.index("cirrus")] < 0.01
    assert 0.2 < through[spectra.COMMON_NAMES.index("nir09")] < 0.6
    assert (np.delete(through, [9, 10]) > 0.9).all()


def test_sky_light_and_air_are_blue() -> None:
    for spectrum in (spectra.SPECTRA["sky_light"], spectra.SPECTRA["rayleigh"]):
        assert np.all(np.diff(np.delete(spectrum, [10])[:10]) < 0)
    assert spectra.aerosol(("blue", "red"))[0] > 1 > spectra.aerosol(("blue", "red"))[1]


def test_a_low_sun_leaves_most_of_the_light_to_the_sky() -> None:
    bands = ("blue", "red", "nir")
    usual, low = spectra.sky_light(bands, 1.305), spectra.sky_light(bands, 4.0)
    np.testing.assert_allclose(usual, spectra.select("sky_light", bands), rtol=1e-5)
    assert np.all(np.diff(low) < 0)
    assert low[0] > 2 * usual[0]
    assert np.all(low < 1)
    # Two halves of the air take from the straight light what the whole takes.
    half = spectra.sky_light(bands, 4.0, air=0.5)
    np.testing.assert_allclose((1 - half) ** 2, 1 - low, rtol=1e-5)


def test_unknown_band_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(InvalidRecipe, match=r"B42.*swir22"):
        spectra.select("rayleigh", ("red", "B42"))
    with pytest.raises(InvalidRecipe, match="empty list"):
        spectra.band_positions(())


def test_signatures_are_fresh_copies() -> None:
    spectra.signatures(("snow",))[:] = 0
    assert spectra.signatures(("snow",)).max() > 0.9


def test_low_sun_shines_through_more_ozone_and_more_air() -> None:
    bands = ("blue", "green", "nir")
    high, low = spectra.ozone(bands, 1.0), spectra.ozone(bands, 3.0)
    assert low[1] < high[1] < 1
    assert low[2] == high[2] == 1
    np.testing.assert_allclose(spectra.ozone(bands, 1.305), spectra.select("ozone", bands), rtol=1e-6)
    assert (spectra.path_reflectance(bands, 3.0) > spectra.path_reflectance(bands, 1.0)).all()


def test_more_ozone_dims_green_most_and_near_infrared_not_at_all() -> None:
    thin, ordinary, thick = (spectra.ozone(("green", "red", "nir"), 1.3, column) for column in (0.5, 1.0, 2.0))
    np.testing.assert_allclose(thick, ordinary**2, rtol=1e-5)
    np.testing.assert_allclose(ordinary, spectra.ozone(("green", "red", "nir"), 1.3))
    assert thin[0] > ordinary[0] > thick[0]
    assert thick[0] < thick[1] < thick[2] == 1
