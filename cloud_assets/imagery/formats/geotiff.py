"""Scenes as plain raster files: one GeoTIFF, COG, JPEG 2000 or 8-bit picture; a folder of one file a band."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.datasets.rasters import RasterHeader, combined_digest, open_raster, read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidRecipe, InvalidScene
from cloud_assets.imagery.formats.container import Container, file_fingerprint, parsed_xml
from cloud_assets.imagery.formats.names import (
    PLACEHOLDERS,
    bands_from_name,
    find_band,
    gdal_path,
    instrument_from_name,
    is_address,
    known_instrument,
    safe_name,
    time_from_name,
)
from cloud_assets.imagery.formats.scaling import Scaling, band_scaling, sampled, scaled_bands
from cloud_assets.imagery.formats.scene_source import SceneBand, SceneSource, finest_grid

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_DRIVERS = ("GTiff", "COG", "JP2OpenJPEG", "PNG", "JPEG")
"""Formats with pixels of their own. A virtual raster could name any file of this machine as its source."""
_INSTRUMENT_TAG = "CLOUD_ASSETS_INSTRUMENT"
_BAND_SUFFIXES = frozenset({".tif", ".tiff", ".jp2"})
_PATCH_COLOURS = {"red": "B4", "green": "B3", "blue": "B2", "nir": "B5"}
_PATCH_FOLDER = re.compile(r"(train|test)_(red|green|blue|nir)")
_PATCH_FILE = re.compile(r"(red|green|blue|nir)_(patch_\d+_.+)", re.IGNORECASE)
_NO_GRID = "has no coordinate reference system: products are in pixels."


def open_geotiff(
    path: Path | str, bands: Sequence[str] | None = None, instrument: str | None = None, scaling: Scaling | None = None
) -> SceneSource:
    """Describes a scene in one raster file, or at its address.

    Which band is which is taken from ``bands``, else from the file's band descriptions, else from a file name that
    lists them (``…_red_green_blue_nir.tif``). The instrument is taken from ``instrument``, else from the file's tags,
    else from a file name as the space agencies give it. ``scaling`` is given where the file does not tell.

    Raises:
        InvalidData: If the file is truncated or is no raster.
        InvalidScene: If it is a raster of another format, or its data type cannot be this instrument's; if nothing
            tells the instrument; if nothing tells which band is which, or the names do not fit the number of bands.
        UnknownBand: If the instrument has no such band.
    """
    file, stem = gdal_path(str(path)), PurePosixPath(urlsplit(str(path)).path if is_address(path) else path).stem
    sources = _sources(path) if isinstance(path, Path) and path.suffix.lower() == ".vrt" else []
    header = read_header(file, with_sidecars=isinstance(path, Path))
    if header.driver not in (_DRIVERS if not sources else ("VRT",)):
        raise InvalidScene(f"{path} is a {header.driver} file; scenes are read from {', '.join(_DRIVERS)}.")
    with open_raster(file, with_sidecars=isinstance(path, Path)) as raster:
        profile = _profile(path, stem, raster, header, instrument)
        names = _band_names(path, stem, raster, profile, bands)
        # Radar power that was not turned into decibels has no negative number at all.
        if profile.unit == "dB" and (sample := sampled(raster, 1)).size and sample.min() >= 0:
            raise InvalidRecipe(
                f"{path}: no backscatter below 0, so this is linear power or amplitude. Convert to decibels first: "
                "10 * log10(power), 20 * log10(amplitude)."
            )
        found = {
            name: band_scaling(raster, RasterBand(file, index), profile, scaling, (stem,))
            for index, name in enumerate(names, start=1)
            if name is not None
        }
    scaled, notes = scaled_bands(found)
    if not header.crs:
        notes.append(f"The scene {_NO_GRID}")
    return SceneSource(
        name=safe_name(stem),
        instrument=profile.name,
        bands=scaled,
        grid=Grid(header.height, header.width, header.crs, header.transform),
        location=str(path),
        # What lies at an address is known by its header alone.
        fingerprint=file_fingerprint([path, *sources, *_sidecars(path)])
        if isinstance(path, Path)
        else combined_digest([path, str(header)]),
        acquired=time_from_name(stem),
        warnings=tuple(sorted(notes)),
    )


def _sources(path: Path) -> list[Path]:
    """The files that a virtual raster is made of, which must lie beside or below it and hold pixels themselves."""
    root = parsed_xml(path.read_bytes(), str(path))
    named = [entry for tag in ("SourceFilename", "SourceDataset") for entry in root.iter(tag)]
    found = []
    for entry in named:
        text = (entry.text or "").strip()
        source = (path.parent / text if entry.get("relativeToVRT") == "1" else Path(text)).resolve()
        if not source.is_relative_to(path.parent.resolve()) or source.suffix.lower() == ".vrt":
            raise InvalidScene(
                f"{path} takes pixels from {text}: sources of a virtual raster must be raster files in its own folder. "
                "Move it there, or turn it into a GeoTIFF (gdal_translate)."
            )
        if not source.is_file():
            raise InvalidData(f"{path}: {source}, which its pixels lie in, is missing. Copy it there.")
        found.append(source)
    if not found:
        raise InvalidScene(f"{path} names no source, so it is no virtual raster. Give the raster itself.")
    return found


def _profile(
    path: Path | str, stem: str, raster: "DatasetReader", header: RasterHeader, instrument: str | None
) -> Instrument:
    name = instrument or raster.tags().get(_INSTRUMENT_TAG) or instrument_from_name(stem)
    if name is None and header.driver in ("PNG", "JPEG"):
        name = "rgb_8bit"
    if name is None:
        raise InvalidScene(
            f"{path}: nothing tells which instrument took this scene. Say so (--instrument), one of "
            f"{', '.join(INSTRUMENTS)}; or keep the name that the space agency gave the file."
        )
    profile = known_instrument("landsat8_l1_8bit" if (name, header.dtype) == ("landsat8_l1", "uint8") else name, path)
    wanted = np.dtype(profile.dtype)
    is_integer = np.issubdtype(np.dtype(header.dtype), np.integer)
    if is_integer and header.dtype not in (wanted.name, "int16"):
        raise InvalidScene(
            f"{path} holds {header.dtype}; {profile.name} has digital numbers of {wanted.name}. Name the right "
            "instrument (--instrument), or convert the file to the digital numbers of the product, or to reflectance "
            "as float32."
        )
    return profile


def _band_names(
    path: Path | str, stem: str, raster: "DatasetReader", profile: Instrument, given: Sequence[str] | None
) -> list[str | None]:
    """The own name of each band of the file; None for those that are no band of the instrument, such as alpha."""
    if given is not None:
        named = [
            None if name in PLACEHOLDERS else find_band(name, profile) or profile.find(name).name for name in given
        ]
        used = [name for name in named if name is not None]
        if len(given) != raster.count or len(set(used)) != len(used) or not used:
            found = ", ".join(text or "no description" for text in raster.descriptions)
            raise InvalidScene(
                f"{path} has {raster.count} bands, {len(given)} names were given ({', '.join(given)}; found: {found}): "
                "name each band of the file once, in its order, and those that are no band of the instrument '-'."
            )
        return named
    described = [None if text is None else find_band(text, profile) for text in raster.descriptions]
    known = [name for name in described if name is not None]
    if known:
        if len(set(known)) != len(known):
            raise InvalidScene(f"{path} describes two bands by the same name: {', '.join(known)}.")
        return [*described]
    listed = bands_from_name(stem, raster.count, profile)
    if listed is None and profile.name == "rgb_8bit" and raster.count in (3, 4):
        listed = profile.names
    if listed is None:
        raise InvalidScene(
            f"{path}: nothing tells which of its {raster.count} bands is which (descriptions found: "
            f"{', '.join(text or 'none' for text in raster.descriptions)}). Name them in the file's order (--bands "
            f"red,green,…; '-' for one that is not used); {profile.name} has {', '.join(profile.names)}."
        )
    return [*listed, *([None] * (raster.count - len(listed)))]


def _sidecars(path: Path) -> list[Path]:
    """Files beside a raster in which GDAL keeps its mask, nodata, scale or georeference."""
    names = [f"{path.name}{suffix}" for suffix in (".msk", ".aux.xml", ".ovr")]
    names += [f"{path.stem}{suffix}" for suffix in (".tfw", ".prj", ".wld", ".aux.xml")]
    return [file for name in names if (file := path.with_name(name)).is_file()]


def open_band_folder(folder: Container, instrument: str | None = None, scaling: Scaling | None = None) -> SceneSource:
    """Describes a scene of one file a band, all in one folder, brought to the finest grid among them.

    Instrument and scaling are given where the files' names and tags do not tell.
    """
    files = [n for n in folder.members if PurePosixPath(n).suffix.lower() in _BAND_SUFFIXES and "/" not in n]
    stems = [PurePosixPath(name).stem for name in files]
    key = instrument or next(filter(None, map(instrument_from_name, (folder.name, *stems))), None)
    listed = ", ".join(sorted(files)[:20]) or "no raster file"
    if key is None:
        raise InvalidScene(
            f"{folder.location} is no product that is known by its metadata. If it holds one file a band, say which "
            f"instrument took it (--instrument), one of {', '.join(INSTRUMENTS)}. Found: {listed}."
        )
    profile = known_instrument(key, folder.location)
    named: dict[str, str] = {}
    for file, stem in sorted(zip(files, stems, strict=True)):
        # The ends of a file name that may name its band: "SR_B4" and "B4" of "LC08_…_SR_B4".
        words = re.split(r"[_.]", stem)
        parts = (stem, "_".join(words[-2:]), words[-1])
        band = next((name for part in parts if (name := find_band(part, profile)) is not None), None)
        if band is not None:
            named.setdefault(band, file)
    if not named:
        raise InvalidScene(
            f"{folder.location}: no file is named by a band of {key} ({', '.join(profile.names)}). Found: {listed}. "
            "Rename the files, or stack them into one GeoTIFF and name its bands (--bands)."
        )
    found = {}
    for name in filter(named.__contains__, profile.names):
        path = folder.gdal_path(named[name])
        with open_raster(path) as raster:
            found[name] = band_scaling(raster, RasterBand(path), profile, scaling, (folder.name, *stems))
    bands, notes = scaled_bands(found)
    return SceneSource(
        name=safe_name(folder.name),
        instrument=key,
        bands=bands,
        grid=finest_grid(bands, profile),
        location=str(folder.location),
        fingerprint=folder.fingerprint,
        acquired=next(filter(None, map(time_from_name, (folder.name, *sorted(stems)))), None),
        warnings=tuple(sorted(notes)),
        container=folder,
    )


def is_patch(path: Path) -> bool:
    """Whether a file lies and is named as 38-Cloud's bands are."""
    return _PATCH_FOLDER.fullmatch(path.parent.name) is not None and _PATCH_FILE.fullmatch(path.stem) is not None


def open_patch(path: Path) -> SceneSource:
    """Describes the 38-Cloud patch that the file of one of its bands belongs to: four files in four folders.

    Bands whose file is missing are left out.
    """
    folder, file = _PATCH_FOLDER.fullmatch(path.parent.name), _PATCH_FILE.fullmatch(path.stem)
    if folder is None or file is None:
        raise ValueError(f"{path} is no band of a 38-Cloud patch")
    header = read_header(str(path))
    bands, files = {}, []
    for colour, name in _PATCH_COLOURS.items():
        candidate = path.parent.parent / f"{folder[1]}_{colour}" / f"{colour}_{file[2]}{path.suffix}"
        if candidate.is_file():
            bands[name] = SceneBand(RasterBand(str(candidate)))
            files.append(candidate)
    return SceneSource(
        name=safe_name(file[2]),
        instrument="landsat8_l1_8bit" if header.dtype == "uint8" else "landsat8_l1",
        bands=bands,
        grid=Grid(header.height, header.width, header.crs, header.transform),
        location=str(path),
        fingerprint=file_fingerprint(files),
        warnings=() if header.crs else (f"The patch {_NO_GRID}",),
    )
