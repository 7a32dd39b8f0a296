"""Names: instrument, bands and time that they tell, spellings of bands, addresses, and safe names for products."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cloud_assets.bands import INSTRUMENTS, SPELLINGS, Instrument
from cloud_assets.errors import InvalidScene, UnknownBand

_FILE_SYSTEMS = {"http": "/vsicurl/http://", "https": "/vsicurl/https://", "s3": "/vsis3/", "gs": "/vsigs/"}
"""GDAL's prefix of addresses by their scheme."""
PLACEHOLDERS = frozenset({"-", "_"})  # what stands for a band that is not used where bands are named in their order
_METRES = re.compile(r"_\d{2}m$")
_PREFIX = re.compile(r"^(sr|toa|rho|refl)_")
_NUMBER = re.compile(r"(?<![a-z0-9])b(?:and)?[ _-]?0*(\d{1,2}a?)(?![a-z0-9])")
_LONGEST_NAME = 120
_LONGEST_BYTES = 200


def instrument_from_name(name: str) -> str | None:
    """The instrument that the space agencies' naming conventions promise, or None."""
    promising = (key for key, each in INSTRUMENTS.items() for start in each.file_names if re.match(start, name))
    return next(promising, None)


def known_instrument(key: str, location: Path | str) -> Instrument:
    """The instrument of a key that a user or a file gives."""
    if key not in INSTRUMENTS:
        raise InvalidScene(f"{location}: there is no instrument {key!r}; there are {', '.join(INSTRUMENTS)}.")
    return INSTRUMENTS[key]


def find_band(text: str, profile: Instrument) -> str | None:
    """The instrument's own name of a band as ESA, USGS, GDAL, QGIS and Earth Engine spell it.

    Such as ``B4``, ``SR_B4``, ``Band 4``, ``B04_10m``, ``red (B04)``, ``B4, central wavelength 665 nm``. None for what
    is no band of the instrument (quality, thermal, alpha).
    """
    plain = text.strip().lower()
    first = re.split(r"[,(\[]", plain, maxsplit=1)[0].strip()
    inside = re.findall(r"[(\[]([^)\]]*)[)\]]", plain)
    spelt = []
    for candidate in (plain, *inside, first):
        name = _PREFIX.sub("", _METRES.sub("", candidate.strip()))
        spelt += [name, SPELLINGS.get(name, name), name.replace(" ", "")]
    numbers = {match[1] for match in _NUMBER.finditer(plain)}
    if len(numbers) == 1:
        spelt.append(f"b{numbers.pop()}")
    for spelling in spelt:
        with suppress(UnknownBand):
            return profile.find(spelling).name
    return None


def bands_from_name(name: str, count: int, profile: Instrument) -> tuple[str, ...] | None:
    """Own names of ``count`` bands that a file name lists one after the other, ``…_red_green_blue_nir_…``; or None."""
    tokens = re.split(r"[_\-. ]+", name)
    runs: list[list[str]] = [[]]
    for token in tokens:
        try:
            runs[-1].append(profile.find(token).name)
        except UnknownBand:
            runs.append([])
    return next((tuple(run) for run in runs if len(run) == count and len(set(run)) == count), None)


def time_from_name(name: str) -> datetime | None:
    """The time in a file name: ``20240131T101010``, HLS's ``2024031T101010``, Landsat's, ``_20240131_``."""
    if match := re.search(r"(?<!\d)(\d{7}T\d{6})(?!\d)", name):
        return _parsed(match[1], "%Y%jT%H%M%S")
    if match := re.search(r"(?<!\d)(\d{8})T(\d{6})(?!\d)", name):
        return _parsed(match[1] + match[2], "%Y%m%d%H%M%S")
    if match := re.match(r"L[CO]8\d{6}(\d{4})(\d{3})[A-Z]{3}\d{2}", name):
        first = _parsed(match[1], "%Y")
        return None if first is None else first + timedelta(days=int(match[2]) - 1)
    return _parsed(match[1], "%Y%m%d") if (match := re.search(r"(?<!\d)(\d{8})(?!\d)", name)) else None


def safe_name(name: str) -> str:
    """A name that can be one folder on any file system: letters of any script, digits, ``._-``, not hidden."""
    cleaned = re.sub(r"[^\w.-]+", "_", name).strip("._-")[:_LONGEST_NAME]
    # Most file systems count bytes, of which other scripts take up to four a letter.
    return cleaned.encode()[:_LONGEST_BYTES].decode(errors="ignore") or "scene"


def is_address(location: Path | str) -> bool:
    """Whether a scene is named by an address such as ``https://…`` or ``s3://…`` instead of a path."""
    return urlsplit(str(location)).scheme in _FILE_SYSTEMS and isinstance(location, str)


def located(text: Path | str) -> Path | str:
    """What a user typed as a path, or as an address, which a path would spoil."""
    return text if is_address(text) else Path(text)


def gdal_path(href: str) -> str:
    """The path by which GDAL reads an address; a local path stays as it is."""
    scheme, separator, rest = href.partition("://")
    if separator and scheme in _FILE_SYSTEMS:
        return f"{_FILE_SYSTEMS[scheme]}{rest}"
    path = href.removeprefix("file://")
    return path if path.startswith("/vsi") or Path(path).exists() else unquote(path)


def _parsed(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
