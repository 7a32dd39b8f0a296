"""Landsat scenes as USGS and the cloud archives give them: one GeoTIFF a band beside a metadata file.

Landsat 4 to 9 (TM, ETM+, OLI), level 1 and 2, Collection 1, Collection 2 and earlier.
"""

from pathlib import Path

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.file_names import safe_name
from cloud_assets.imagery.formats.landsat_metadata import LandsatMetadata, metadata_files, read_metadata
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneBand, SceneSource, file_fingerprint

_INSTRUMENT = {"OLI": "landsat8", "ETM": "landsat_etm", "TM": "landsat_tm"}
_LOW_SUN = 5.0
"""Degrees above the horizon below which a warning is given."""


def open_landsat(path: Path) -> SceneSource:
    """Describes a Landsat scene; scale and offset of each band are read from its metadata.

    Args:
        path: The metadata file, or the folder of one scene.

    Raises:
        InvalidScene: If the metadata are missing, damaged or of another satellite; if a folder holds several scenes; if
            the sun was below the horizon.
        InvalidData: If no band file of the metadata is there, one lies outside the folder, or cannot be opened.
    """
    metadata = read_metadata(path if path.is_file() else _only_metadata_file(path))
    folder = metadata.file.parent
    warnings = _sun_warnings(metadata)
    profile = INSTRUMENTS[f"{_INSTRUMENT[metadata.sensor]}_l{metadata.level[1]}"]
    bands = {}
    for name in profile.names:
        band = metadata.bands.get(name.removeprefix("B"))
        if band is None:
            continue
        if Path(band.file).name != band.file:
            raise InvalidData(f"{metadata.file} names a band file outside its folder: {band.file!r}. Do not use it.")
        if (folder / band.file).is_file():
            bands[name] = SceneBand(RasterBand(str(folder / band.file)), band.scale, band.offset, nodata=0)
    if not bands:
        raise InvalidData(f"{folder}: none of the band files that {metadata.file.name} lists is there.")
    # The panchromatic band has a grid of its own, twice as fine.
    first = next(name for name in sorted(bands, key=lambda name: name == "B8"))
    header = read_header(bands[first].raster.path)
    if not header.crs:
        warnings = (*warnings, "The scene has no coordinate reference system: products are in pixels.")
    is_alone = len(metadata_files(folder)) == 1
    return SceneSource(
        name=safe_name(metadata.product),
        instrument=profile.name,
        bands=bands,
        grid=Grid(header.height, header.width, header.crs, header.transform),
        location=str(folder if is_alone else metadata.file),
        fingerprint=file_fingerprint([metadata.file, *(Path(band.raster.path) for band in bands.values())]),
        acquired=metadata.acquired,
        warnings=warnings,
        attributes={
            "satellite": metadata.satellite,
            "processing_level": metadata.level,
            **({STATED_CLOUD: metadata.cloud_cover} if metadata.cloud_cover is not None else {}),
        },
    )


def _only_metadata_file(folder: Path) -> Path:
    files = metadata_files(folder)
    if len(files) == 1:
        return files[0]
    if not files:
        raise InvalidScene(f"{folder}: no *_MTL.txt, .xml or .json in it. Download the scene again.")
    raise InvalidScene(
        f"{folder} holds {len(files)} scenes: name the metadata file of one of them, {', '.join(map(str, files[:5]))}."
    )


def _sun_warnings(metadata: LandsatMetadata) -> tuple[str, ...]:
    """What the height of the sun makes uncertain.

    Raises:
        InvalidScene: If the sun was below the horizon: there is no reflected light to see clouds by.
    """
    elevation = metadata.sun_elevation
    if elevation is None:
        return ()
    if elevation <= 0:
        raise InvalidScene(
            f"{metadata.file}: the sun was {-elevation:.1f} degrees below the horizon. Cloud masks need reflected "
            "sunlight; night scenes are not masked."
        )
    if elevation < _LOW_SUN:
        return (f"The sun was only {elevation:.1f} degrees above the horizon: clouds and shadows are hard to tell.",)
    return ()
