"""Scenes as a folder of one raster file a band, named by the band: ``B02.jp2``, ``…_SR_B4.TIF``, ``…_red.tif``."""

import re
from pathlib import PurePosixPath

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.rasters import open_raster
from cloud_assets.datasets.scene import RasterBand
from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.band_names import find_band
from cloud_assets.imagery.formats.container import Container
from cloud_assets.imagery.formats.file_names import instrument_from_name, safe_name, time_from_name
from cloud_assets.imagery.formats.scaling import Scaling, band_scaling, of_one_product
from cloud_assets.imagery.formats.scene_reader import SceneBand
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.geometry import finest_grid

_SUFFIXES = frozenset({".tif", ".tiff", ".jp2"})


def open_band_folder(folder: Container, instrument: str | None = None, scaling: Scaling | None = None) -> SceneSource:
    """Describes a scene of one file a band; all bands are brought to the finest grid among them.

    Args:
        folder: The files, all in one folder.
        instrument: Key in :data:`cloud_assets.bands.INSTRUMENTS`, where the files' names do not tell.
        scaling: From digital numbers to reflectance, where the files do not tell.

    Raises:
        InvalidScene: If nothing tells the instrument, or no file is named by one of its bands; the message lists the
            files that were found.
        InvalidData: If no file can be read.
    """
    files = [name for name in folder.members if PurePosixPath(name).suffix.lower() in _SUFFIXES and "/" not in name]
    stems = [PurePosixPath(name).stem for name in files]
    key = instrument or next((found for stem in (folder.name, *stems) if (found := instrument_from_name(stem))), None)
    listed = ", ".join(sorted(files)[:20]) or "no raster file"
    if key is None:
        raise InvalidScene(
            f"{folder.location} is no product that is known by its metadata. If it holds one file a band, say which "
            f"instrument took it (--instrument), one of {', '.join(INSTRUMENTS)}. Found: {listed}."
        )
    if key not in INSTRUMENTS:
        raise InvalidScene(f"{folder.location}: there is no instrument {key!r}; there are {', '.join(INSTRUMENTS)}.")
    profile = INSTRUMENTS[key]
    named: dict[str, str] = {}
    for file, stem in sorted(zip(files, stems, strict=True)):
        band = next((name for part in _band_parts(stem) if (name := find_band(part, profile)) is not None), None)
        if band is not None:
            named.setdefault(band, file)
    if not named:
        raise InvalidScene(
            f"{folder.location}: no file is named by a band of {key} ({', '.join(profile.names)}). Found: {listed}. "
            "Rename the files, or stack them into one GeoTIFF and name its bands (--bands)."
        )
    scalings = {}
    for name in profile.names:
        if name in named:
            with open_raster(folder.gdal_path(named[name])) as raster:
                scalings[name] = band_scaling(raster, 1, profile, scaling, (folder.name, *stems))
    scaled = of_one_product(scalings)
    bands = {
        name: SceneBand(RasterBand(folder.gdal_path(named[name])), band.scale, band.offset, band.nodata)
        for name, band in scaled.items()
    }
    grid = finest_grid(
        [bands[name].raster.path for name in bands if profile.find(name).common_name != "pan" or len(bands) == 1]
    )
    times = [time for stem in (folder.name, *sorted(stems)) if (time := time_from_name(stem)) is not None]
    return SceneSource(
        name=safe_name(folder.name),
        instrument=key,
        bands=bands,
        grid=grid,
        location=str(folder.location),
        fingerprint=folder.fingerprint,
        acquired=next(iter(times), None),
        warnings=tuple(sorted({note for band in scaled.values() for note in band.notes})),
        container=folder,
    )


def _band_parts(stem: str) -> list[str]:
    """The ends of a file name that may name its band, shortest last: ``SR_B4`` and ``B4`` of ``LC08_…_SR_B4``."""
    words = re.split(r"[_.]", stem)
    return [stem, "_".join(words[-2:]), words[-1]]
