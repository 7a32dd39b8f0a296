"""Which band a description or file name means: the spellings of ESA, USGS, GDAL, QGIS and Earth Engine."""

import re

from cloud_assets.bands import Instrument
from cloud_assets.errors import UnknownBand

PLACEHOLDERS = frozenset({"-", "_"})
"""What stands for a band that is not used where bands are named in their order."""
_METRES = re.compile(r"_\d{2}m$")
_PREFIX = re.compile(r"^(sr|toa|rho|refl)_")
_NUMBER = re.compile(r"(?<![a-z0-9])b(?:and)?[ _-]?0*(\d{1,2}a?)(?![a-z0-9])")
_SPELT_OUT = {
    "near infrared": "nir",
    "near-infrared": "nir",
    "coastal aerosol": "coastal",
    "nir1": "nir",
    "nir narrow": "nir08",
    "rededge1": "rededge071",
    "rededge2": "rededge075",
    "rededge3": "rededge078",
}


def find_band(text: str, profile: Instrument) -> str | None:
    """The instrument's own name of a band.

    Args:
        text: Such as ``B4``, ``SR_B4``, ``Band 4``, ``B04_10m``, ``red (B04)``, ``B4, central wavelength 665 nm``.
        profile: The instrument.

    Returns:
        The name, or None for what is no band of the instrument (quality, thermal, alpha).
    """
    plain = text.strip().lower()
    first = re.split(r"[,(\[]", plain, maxsplit=1)[0].strip()
    inside = re.findall(r"[(\[]([^)\]]*)[)\]]", plain)
    for candidate in (plain, *inside, first):
        name = _PREFIX.sub("", _METRES.sub("", candidate.strip()))
        for spelling in (name, _SPELT_OUT.get(name, name), name.replace(" ", "")):
            try:
                return profile.find(spelling).name
            except UnknownBand:
                continue
    numbers = {match[1] for match in _NUMBER.finditer(plain)}
    if len(numbers) == 1:
        try:
            return profile.find(f"b{numbers.pop()}").name
        except UnknownBand:
            return None
    return None
