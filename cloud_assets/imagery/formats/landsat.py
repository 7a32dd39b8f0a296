"""Landsat scenes as USGS and the cloud archives give them: one GeoTIFF a band beside a metadata file.

Landsat 4 to 9 (TM, ETM+, OLI), level 1 and 2, Collection 1, Collection 2 and earlier. Metadata files (``*_MTL.txt``,
``.xml``, ``.json``) are parsed group by group: a level-2 file repeats the keys of its level-1 source, so a key means
nothing without its group. Formats: Landsat 8-9 Data Format Control Books LSDS-1822 (level 1) and LSDS-1328 (level 2);
Landsat 4-7 LSDS-1414, LSDS-1618; Collection 1 LSDS-1656; before them LSDS-272 (Landsat 4-7) and LSDS-809 (Landsat 8).
"""

import json
import math
import re
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.container import Container, parsed_xml
from cloud_assets.imagery.formats.names import safe_name
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneBand, SceneSource, sun_corrected, sun_notes

_INSTRUMENT = {"OLI": "landsat8", "ETM": "landsat_etm", "TM": "landsat_tm"}
_SUFFIXES: Final = ("_MTL.txt", "_MTL.xml", "_MTL.json")
"""How metadata files end, the preferred one first: all three say the same."""
_LEVEL1_TABLES = ("LEVEL1_RADIOMETRIC_RESCALING", "RADIOMETRIC_RESCALING")
_REFLECTIVE = {"OLI": "123456789", "ETM": "1234578", "TM": "123457"}
"""Numbers of the bands that see reflected light, by sensor."""
_LINE = re.compile(r"^\s*(\w+)\s*=\s*\"?([^\"\n]*?)\"?\s*$", re.MULTILINE)

Groups = Mapping[str, Mapping[str, str]]

# Mean exoatmospheric solar irradiance, W m-2 um-1 (Chander, Markham & Helder 2009, https://doi.org/10.1016/
# j.rse.2009.01.007, table 4): products of before the collections give radiance only.
_SOLAR_IRRADIANCE: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "LANDSAT_4": {"1": 1983, "2": 1795, "3": 1539, "4": 1028, "5": 219.8, "7": 83.49},
        "LANDSAT_5": {"1": 1983, "2": 1796, "3": 1536, "4": 1031, "5": 220.0, "7": 83.44},
        "LANDSAT_7": {"1": 1997, "2": 1812, "3": 1533, "4": 1039, "5": 230.8, "7": 84.90, "8": 1362},
    }
)


@dataclass(frozen=True)
class LandsatBand:
    """A band file and how its digital numbers become reflectance."""

    file: str  # name of the file, in the folder of the metadata
    scale: float  # reflectance a digital number; at level 1 before the division by the sine of the sun's elevation
    offset: float  # reflectance


@dataclass(frozen=True)
class LandsatMetadata:
    """What a metadata file says about its scene."""

    file: str  # the metadata file
    product: str  # product or scene identifier
    satellite: str  # ``LANDSAT_4`` … ``LANDSAT_9``
    sensor: str  # ``TM``, ``ETM`` or ``OLI``
    level: str  # processing level such as ``L1TP``, ``L2SP``
    bands: Mapping[str, LandsatBand]  # reflective bands by their number
    sun_elevation: float | None  # degrees above the horizon at the scene's centre
    acquired: datetime | None
    cloud_cover: str | None  # percent, by the agency's own rule


def open_landsat(folder: Container, metadata_file: str) -> SceneSource:
    """Describes a Landsat scene; scale and offset of each band are read from its metadata.

    Args:
        folder: The files of the scene, and perhaps of others.
        metadata_file: Which of them is the scene's metadata file.

    Raises:
        InvalidScene: If the metadata are damaged or of another satellite, or the sun was below the horizon.
        InvalidData: If no band file of the metadata is there, one lies outside the folder, or cannot be opened.
    """
    metadata = read_metadata(folder.read(metadata_file), f"{folder.location}: {metadata_file}")
    warnings = sun_notes(metadata.file, metadata.sun_elevation)
    profile = INSTRUMENTS[f"{_INSTRUMENT[metadata.sensor]}_l{metadata.level[1]}"]
    bands = {}
    for name in profile.names:
        band = metadata.bands.get(name.removeprefix("B"))
        if band is None:
            continue
        if PurePath(band.file).name != band.file:
            raise InvalidData(f"{metadata.file} names a band file outside its folder: {band.file!r}. Do not use it.")
        if band.file in folder.members:
            bands[name] = SceneBand(RasterBand(folder.gdal_path(band.file)), band.scale, band.offset, nodata=0)
    if not bands:
        raise InvalidData(f"{folder.location}: none of the band files of {metadata_file} is there. Unpack them all.")
    instrument, bands = sun_corrected(profile.name, bands, metadata.sun_elevation)
    # The panchromatic band has a grid of its own, twice as fine.
    first = next(name for name in sorted(bands, key=lambda name: name == "B8"))
    header = read_header(bands[first].raster.path)
    if not header.crs:
        warnings = (*warnings, "The scene has no coordinate reference system: products are in pixels.")
    own = {metadata_file, *(band.file for band in metadata.bands.values())}
    files = replace(folder, members={name: size for name, size in folder.members.items() if name in own})
    is_alone = len(metadata_files(folder.members)) == 1 or folder.location.is_file()
    return SceneSource(
        name=safe_name(metadata.product),
        instrument=instrument,
        bands=bands,
        grid=Grid(header.height, header.width, header.crs, header.transform),
        location=str(folder.location if is_alone else folder.location / metadata_file),
        fingerprint=files.fingerprint,
        acquired=metadata.acquired,
        sun_elevation=None if instrument == profile.name else metadata.sun_elevation,
        warnings=warnings,
        attributes={
            "satellite": metadata.satellite,
            "processing_level": metadata.level,
            **({STATED_CLOUD: metadata.cloud_cover} if metadata.cloud_cover is not None else {}),
        },
        container=files,
    )


def metadata_files(names: Iterable[str]) -> list[str]:
    """The metadata files among some files, one a scene, in the order of their names."""
    listed = list(names)
    found: dict[str, str] = {}
    for suffix in _SUFFIXES:
        for name in listed:
            if name.endswith(suffix):
                found.setdefault(name.removesuffix(suffix), name)
    return [found[name] for name in sorted(found)]


def read_metadata(content: bytes, file: str) -> LandsatMetadata:
    """Reads a metadata file, the end of whose name tells which of the three forms it has."""
    groups = _groups(content, file)
    # All keys of the file; of those that several groups have, the first group's.
    everything = dict(ChainMap(*groups.values()))
    satellite = re.sub(r"^LANDSAT_?(\d)$", r"LANDSAT_\1", everything.get("SPACECRAFT_ID", "").upper())
    if not re.fullmatch(r"LANDSAT_[4-9]", satellite):
        raise InvalidScene(f"{file}: the satellite is {satellite or 'not named'}; Landsat 4 to 9 are read.")
    sensor = next((name for name in ("OLI", "ETM", "TM") if everything.get("SENSOR_ID", "").startswith(name)), None)
    if sensor is None:
        raise InvalidScene(
            f"{file}: the sensor is {everything.get('SENSOR_ID') or 'not named'}; TM, ETM+ and OLI are read, which see "
            "reflected light in the bands that cloud masks need."
        )
    contents = groups.get("PRODUCT_CONTENTS", everything)
    level = _first(contents, "PROCESSING_LEVEL", "DATA_TYPE", "PRODUCT_TYPE") or ""
    if not re.match(r"L[12]", level):
        raise InvalidScene(f"{file}: the processing level is {level!r}, not L1… or L2…. Download it again.")
    elevation = _number_or_none(everything, "SUN_ELEVATION")
    is_surface = level.startswith("L2")
    tables = ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS",) if is_surface else _LEVEL1_TABLES
    rescaling = next((groups[name] for name in tables if name in groups), everything)
    names = {
        match[1] or match[2]: value
        for key, value in contents.items()
        if (match := re.fullmatch(r"FILE_NAME_BAND_(\d+)|BAND(\d)_FILE_NAME", key))
    }
    bands = {
        number: LandsatBand(name, *_reflectance(file, number, rescaling, everything, satellite))
        for number, name in names.items()
        if number in _REFLECTIVE[sensor]
    }
    product = _first(contents, "LANDSAT_PRODUCT_ID") or _first(everything, "LANDSAT_PRODUCT_ID", "LANDSAT_SCENE_ID")
    return LandsatMetadata(
        file=file,
        product=product or re.sub(r"_MTL\.(txt|xml|json)$", "", PurePath(file).name),
        satellite=satellite,
        sensor=sensor,
        level=level,
        bands=bands,
        sun_elevation=elevation,
        acquired=_time(everything),
        cloud_cover=everything.get("CLOUD_COVER"),
    )


def _groups(content: bytes, file: str) -> dict[str, dict[str, str]]:
    """The file's groups by name, the keys of each in their order."""
    if file.endswith(".xml"):
        root = parsed_xml(content, file)
        found = {group.tag: {entry.tag: (entry.text or "").strip() for entry in group} for group in root}
    elif file.endswith(".json"):
        try:
            (groups,) = json.loads(content).values()
            found = {group: {key: str(value) for key, value in entries.items()} for group, entries in groups.items()}
        except (ValueError, AttributeError) as error:
            raise InvalidScene(f"{file} is damaged ({error}). Download it again.") from error
    else:
        found, open_groups = {}, []
        for key, value in _LINE.findall(content.decode("utf-8", errors="replace")):
            if key == "GROUP":
                open_groups.append(value)
            elif key == "END_GROUP":
                open_groups = open_groups[:-1]
            elif open_groups:
                found.setdefault(open_groups[-1], {})[key] = value
    if not found:
        raise InvalidScene(f"{file} holds no group of metadata: it is damaged. Download it again.")
    return found


def _reflectance(
    file: str, number: str, rescaling: Mapping[str, str], everything: Mapping[str, str], satellite: str
) -> tuple[float, float]:
    """Scale and offset of a band; from radiance where the file gives no reflectance."""
    if f"REFLECTANCE_MULT_BAND_{number}" in rescaling or satellite >= "LANDSAT_8":
        return (
            _number(rescaling, f"REFLECTANCE_MULT_BAND_{number}", file),
            _number(rescaling, f"REFLECTANCE_ADD_BAND_{number}", file),
        )
    if f"RADIANCE_MULT_BAND_{number}" in rescaling:
        gain = _number(rescaling, f"RADIANCE_MULT_BAND_{number}", file)
        bias = _number(rescaling, f"RADIANCE_ADD_BAND_{number}", file)
    else:

        def limit(*names: str) -> float:
            keys = [f"{name}_BAND{separator}{number}" for name in names for separator in ("", "_")]
            return _number(everything, next((key for key in keys if key in everything), keys[0]), file)

        darkest, brightest = limit("LMIN", "RADIANCE_MINIMUM"), limit("LMAX", "RADIANCE_MAXIMUM")
        lowest, highest = limit("QCALMIN", "QUANTIZE_CAL_MIN"), limit("QCALMAX", "QUANTIZE_CAL_MAX")
        gain = (brightest - darkest) / (highest - lowest)
        bias = darkest - gain * lowest
    acquired = _time(everything)
    if acquired is None:
        raise InvalidScene(f"{file} gives radiance only, and no date for the distance of the sun. Download it again.")
    distance = 1 - 0.01672 * math.cos(math.radians(0.9856 * (acquired.timetuple().tm_yday - 4)))
    factor = math.pi * distance**2 / _SOLAR_IRRADIANCE[satellite][number]
    return gain * factor, bias * factor


def _first(entries: Mapping[str, Any], *keys: str) -> str | None:
    return next((str(entries[key]) for key in keys if entries.get(key)), None)


def _number(entries: Mapping[str, str], key: str, file: str) -> float:
    number = _number_or_none(entries, key)
    if number is None:
        raise InvalidScene(f"{file}: {key} is missing or is no number. Download the metadata file again.")
    return number


def _number_or_none(entries: Mapping[str, str], key: str) -> float | None:
    try:
        number = float(entries[key])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _time(entries: Mapping[str, str]) -> datetime | None:
    date = _first(entries, "DATE_ACQUIRED", "ACQUISITION_DATE")
    clock = _first(entries, "SCENE_CENTER_TIME", "SCENE_CENTER_SCAN_TIME") or "00:00:00"
    # The metadata give seven digits after the second, Python reads six.
    short = re.sub(r"(\.\d{6})\d*", r"\1", clock).rstrip("Z")
    try:
        return datetime.fromisoformat(f"{date}T{short}").replace(tzinfo=UTC)
    except ValueError:
        return None
