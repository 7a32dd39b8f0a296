"""Landsat scenes as USGS and the cloud archives give them: one GeoTIFF a band beside a metadata file.

Landsat 4 to 9 (TM, ETM+, OLI), level 1 and 2, Collection 1, Collection 2 and earlier.
"""

from dataclasses import replace
from pathlib import PurePath

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData
from cloud_assets.imagery.formats.container import Container
from cloud_assets.imagery.formats.landsat_metadata import metadata_files, read_metadata
from cloud_assets.imagery.formats.names import safe_name
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneBand, SceneSource, sun_corrected, sun_notes

_INSTRUMENT = {"OLI": "landsat8", "ETM": "landsat_etm", "TM": "landsat_tm"}


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
        raise InvalidData(f"{folder.location}: none of the band files that {metadata_file} lists is there.")
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
