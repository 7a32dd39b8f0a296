import pytest

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.imagery.formats.names import find_band


@pytest.mark.parametrize(
    ("text", "instrument", "band"),
    [
        ("SR_B4", "landsat8_l2", "B4"),
        ("Band 4", "landsat8_l1", "B4"),
        ("Band 4 (Red)", "landsat8_l1", "B4"),
        ("B4, central wavelength 665 nm", "sentinel2_l1c", "B04"),
        ("B02_10m", "sentinel2_l2a", "B02"),
        ("red (B04)", "sentinel2_l1c", "B04"),
        ("B8A", "sentinel2_l1c", "B8A"),
        ("Near Infrared", "landsat8_l1", "B5"),
        ("NIR", "landsat_tm_l1", "B4"),
        ("band_05", "sentinel2_l1c", "B05"),
        ("SR_QA_AEROSOL", "landsat8_l2", None),
        ("ST_B10", "landsat8_l2", None),
        ("QA60", "sentinel2_l1c", None),
        ("alpha", "sentinel2_l1c", None),
        ("SCL", "sentinel2_l2a", None),
        ("B4-B3 ratio", "sentinel2_l1c", None),
    ],
)
def test_spellings(text, instrument, band):
    assert find_band(text, INSTRUMENTS[instrument]) == band
