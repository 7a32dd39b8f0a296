"""Band names, digital numbers and validity."""

import numpy as np
import pytest

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidRecipe, UnknownBand

INTEGER = [name for name, instrument in INSTRUMENTS.items() if instrument.dtype != "float32"]


def test_every_instrument_is_filed_under_its_own_name_and_has_distinct_bands() -> None:
    for key, instrument in INSTRUMENTS.items():
        assert instrument.name == key
        assert len(set(instrument.names)) == len(instrument.names)
        assert len({band.common_name for band in instrument.bands}) == len(instrument.bands)


@pytest.mark.parametrize(
    ("instrument", "asked", "found"),
    [
        ("sentinel2_l1c", "red", "B04"),
        ("sentinel2_l1c", "B4", "B04"),
        ("sentinel2_l1c", "b8a", "B8A"),
        ("sentinel2_l1c", "nir", "B08"),
        ("sentinel2_l1c", "nir08", "B8A"),
        ("sentinel2_l1c", "B10", "B10"),
        ("landsat8_l1", "nir", "B5"),
        ("landsat8_l1", "nir08", "B5"),
        ("landsat8_l1", "B04", "B4"),
        ("sentinel1_grd", "vh", "VH"),
        ("rgb_8bit", "blue", "blue"),
    ],
)
def test_bands_are_found_by_their_own_and_by_common_names(instrument: str, asked: str, found: str) -> None:
    assert INSTRUMENTS[instrument].find(asked).name == found


def test_an_unknown_band_lists_what_there_is() -> None:
    with pytest.raises(UnknownBand, match=r"sentinel2_l2a has no band 'B10'.*B04 \(red\)"):
        INSTRUMENTS["sentinel2_l2a"].find("B10")
    with pytest.raises(UnknownBand, match="VV"):
        INSTRUMENTS["sentinel1_grd"].find("red")


@pytest.mark.parametrize(
    ("instrument", "dn", "physical"),
    [
        ("sentinel2_l1c", 10000, 1.0),
        ("sentinel2_l1c", 1234, 0.1234),
        ("landsat8_l1", 5000, 0.0),  # the handbook's own example: DN * 2e-5 - 0.1
        ("landsat8_l1", 55000, 1.0),
        ("landsat8_l2", 7273, 7273 * 2.75e-5 - 0.2),
        ("landsat8_l1_8bit", 255, 65535 * 2e-5 - 0.1),
        ("rgb_8bit", 255, 0.4),
        ("sentinel1_grd", -17.5, -17.5),
    ],
)
def test_known_digital_numbers(instrument: str, dn: float, physical: float) -> None:
    values = INSTRUMENTS[instrument].to_physical(np.array([dn], INSTRUMENTS[instrument].dtype))
    assert values.dtype == np.float32
    assert values[0] == pytest.approx(physical, abs=1e-6)


def test_the_baseline_offset_of_sentinel2_is_taken_in_reflectance_and_never_wraps() -> None:
    instrument = INSTRUMENTS["sentinel2_l1c"]
    dn = np.array([1000, 400, 11000], np.uint16)
    np.testing.assert_allclose(instrument.to_physical(dn, offset=-0.1), [0.0, -0.06, 1.0], atol=1e-6)
    with pytest.raises(InvalidRecipe, match=r"-1000 DN is -0\.1"):
        instrument.to_physical(dn, offset=-1000)


@pytest.mark.parametrize("name", INTEGER)
def test_digital_numbers_survive_the_way_there_and_back(name: str) -> None:
    instrument = INSTRUMENTS[name]
    highest = np.iinfo(instrument.dtype).max if instrument.saturated is None else int(instrument.saturated) - 1
    dn = np.arange(1, highest + 1).astype(instrument.dtype)
    back = instrument.to_dn(instrument.to_physical(dn))
    assert back.dtype == dn.dtype
    np.testing.assert_array_equal(back, dn)


@pytest.mark.parametrize("name", INTEGER)
def test_no_observed_value_becomes_nodata_or_saturated_and_an_unobserved_one_does(name: str) -> None:
    instrument = INSTRUMENTS[name]
    dn = instrument.to_dn(np.array([-9.0, -0.1, 0.0, 99.0, np.nan, np.inf]))
    assert instrument.nodata not in dn[:4]
    assert instrument.saturated is None or instrument.saturated not in dn
    np.testing.assert_array_equal(dn[4:], instrument.nodata)


def test_a_pixel_is_nodata_only_where_every_band_says_so() -> None:
    dn = np.ones((2, 3, 4, 5), np.uint16)
    dn[0, :, 1, 2] = 0  # unobserved
    dn[1, 1] = 0  # one absent band
    valid = INSTRUMENTS["sentinel2_l1c"].valid(dn)
    assert valid.shape == (2, 4, 5)
    assert not valid[0, 1, 2]
    assert valid.sum() == valid.size - 1


def test_backscatter_is_valid_where_it_is_finite_in_both_polarisations() -> None:
    backscatter = np.full((2, 2, 2), -12.0, np.float32)
    backscatter[0, 0, 0], backscatter[1, 1, 1] = np.nan, -np.inf
    np.testing.assert_array_equal(INSTRUMENTS["sentinel1_grd"].valid(backscatter), [[False, True], [True, False]])
    assert np.isnan(INSTRUMENTS["sentinel1_grd"].to_dn(np.array([np.nan]))).all()
