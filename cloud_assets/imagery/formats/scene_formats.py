"""Opens a scene of any format: finds out what a path holds."""

from collections.abc import Sequence
from pathlib import Path

from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.cloud38_patch import is_patch, open_patch
from cloud_assets.imagery.formats.geotiff import open_geotiff
from cloud_assets.imagery.formats.landsat import open_landsat
from cloud_assets.imagery.formats.landsat_metadata import SUFFIXES, metadata_files
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.formats.sentinel2_safe import is_safe, open_safe

RASTER_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg"})
_RADAR = "_s1.tif"
ACCEPTED = "a GeoTIFF, a Sentinel-2 .SAFE folder or its zip archive, or the folder or metadata file of a Landsat scene"


def radar_beside(path: Path) -> Path | None:
    """The Sentinel-1 scene that lies beside an optical one by its name, ``<scene>_s1.tif``; or None."""
    candidate = path.parent / f"{path.stem if path.is_file() else path.name.removesuffix('.SAFE')}{_RADAR}"
    return candidate if candidate.is_file() and not is_radar(path) else None


def is_radar(path: Path) -> bool:
    """Whether a file is named as the radar partner of a scene."""
    return path.name.endswith(_RADAR)


def open_scene(path: Path, bands: Sequence[str] | None = None, instrument: str | None = None) -> SceneSource:
    """Describes the scene at a path; nothing but headers and metadata is read.

    Args:
        path: A GeoTIFF or other raster file; a Sentinel-2 SAFE folder or its zip archive; a folder with a Landsat
            scene; the metadata file of one of these; or a band of a 38-Cloud patch.
        bands: Names of the bands of a raster file in their order, where the file does not tell.
        instrument: Key in :data:`cloud_assets.bands.INSTRUMENTS`, where a raster file does not tell; one that is named
            as a radar partner (``…_s1.tif``) tells.

    Returns:
        The scene.

    Raises:
        InvalidScene: If there is nothing, or nothing known; other errors as the formats' own modules raise them.
    """
    if not path.exists():
        raise InvalidScene(f"{path} does not exist.")
    if path.name.endswith(SUFFIXES):
        return open_landsat(path)
    if path.name.startswith("MTD_MSIL"):
        path = path.parent
    if is_safe(path):
        return open_safe(path)
    if path.is_dir() and metadata_files(path):
        return open_landsat(path)
    if path.is_file() and is_patch(path):
        return open_patch(path)
    if path.is_file() and path.suffix.lower() in RASTER_SUFFIXES:
        return open_geotiff(path, bands, instrument or ("sentinel1_grd" if is_radar(path) else None))
    raise InvalidScene(f"{path} is no scene: expected {ACCEPTED}.")
