"""Landsat 8 and 9 Collection 2 scenes: a folder of GeoTIFFs with a metadata file (``*_MTL.txt``).

Landsat 8-9 Collection 2 Level 1 / Level 2 Data Format Control Book, U.S. Geological Survey, LSDS-1822 and LSDS-1328.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.file_names import safe_name
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneBand, SceneSource, file_fingerprint

_LINE = re.compile(r"^\s*(\w+)\s*=\s*\"?([^\"\n]*?)\"?\s*$", re.MULTILINE)
_LARGEST_METADATA = 4 << 20


def metadata_file(folder: Path) -> Path | None:
    """The folder's ``*_MTL.txt``, or None."""
    return next(iter(sorted(folder.glob("*_MTL.txt"))), None) if folder.is_dir() else None


def open_landsat(folder: Path) -> SceneSource:
    """Describes a Landsat 8 or 9 scene; scale and offset of each band are read from its metadata.

    Args:
        folder: The unpacked scene.

    Raises:
        InvalidScene: If the metadata are missing or damaged.
        InvalidScene: If it is of another satellite.
        InvalidData: If no band file of the metadata is there.
        InvalidData: If the metadata name a file outside the folder.
        InvalidData: If the first band cannot be opened.
    """
    file = metadata_file(folder)
    if file is None or file.stat().st_size > _LARGEST_METADATA:
        raise InvalidScene(f"{folder}: no readable *_MTL.txt. Download the scene again.")
    entries = dict(_LINE.findall(file.read_text(encoding="utf-8", errors="replace")))
    satellite, level = entries.get("SPACECRAFT_ID", ""), entries.get("PROCESSING_LEVEL", "")
    if satellite not in ("LANDSAT_8", "LANDSAT_9"):
        raise InvalidScene(f"{file}: the satellite is {satellite or 'not named'}; Landsat 8 and 9 are read.")
    if not re.match(r"L[12]", level):
        raise InvalidScene(f"{file}: PROCESSING_LEVEL is {level!r}, not L1… or L2…: the file is damaged.")
    profile = INSTRUMENTS[f"landsat8_l{level[1]}"]
    bands = {}
    for name in profile.names:
        number = name.removeprefix("B")
        listed = entries.get(f"FILE_NAME_BAND_{number}")
        if listed is None:
            continue
        if Path(listed).name != listed:
            raise InvalidData(f"{file} names a band file outside its folder: {listed!r}. Do not use this scene.")
        if not (folder / listed).is_file():
            continue
        scale, offset = (_number(entries, f"REFLECTANCE_{what}_BAND_{number}", file) for what in ("MULT", "ADD"))
        bands[name] = SceneBand(RasterBand(str(folder / listed)), scale, offset, nodata=0)
    if not bands:
        raise InvalidData(f"{folder}: none of the band files that {file.name} lists is there.")
    # The panchromatic band has a grid of its own, twice as fine.
    first = next(name for name in sorted(bands, key=lambda name: name == "B8"))
    header = read_header(bands[first].raster.path)
    grid = Grid(header.height, header.width, header.crs, header.transform)
    return SceneSource(
        name=safe_name(entries.get("LANDSAT_PRODUCT_ID") or folder.name),
        instrument=profile.name,
        bands=bands,
        grid=grid,
        location=str(folder),
        fingerprint=file_fingerprint([file, *(Path(band.raster.path) for band in bands.values())]),
        acquired=_time(entries),
        warnings=() if header.crs else ("The scene has no coordinate reference system: products are in pixels.",),
        attributes={
            "satellite": satellite,
            "processing_level": level,
            **({STATED_CLOUD: entries["CLOUD_COVER"]} if "CLOUD_COVER" in entries else {}),
        },
    )


def _number(entries: Mapping[str, str], key: str, file: Path) -> float:
    try:
        return float(entries[key])
    except (KeyError, ValueError) as error:
        raise InvalidScene(f"{file}: {key} is missing or is no number. Download the metadata file again.") from error


def _time(entries: Mapping[str, str]) -> datetime | None:
    text = f"{entries.get('DATE_ACQUIRED', '')}T{entries.get('SCENE_CENTER_TIME', '')}"
    try:
        # The metadata give seven digits after the second, Python reads six.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z?$", r"\1+00:00", text))
    except ValueError:
        return None
