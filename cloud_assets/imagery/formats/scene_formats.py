"""Opening of scenes: recognises the format of a path."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.container import Container, is_archive, open_container
from cloud_assets.imagery.formats.geotiff import is_patch, open_band_folder, open_geotiff, open_patch
from cloud_assets.imagery.formats.landsat import metadata_files, open_landsat
from cloud_assets.imagery.formats.names import located
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.formats.sentinel2 import METADATA, TILE_METADATA, open_product, open_tile
from cloud_assets.imagery.formats.stac_scene import open_stac, stac_scenes

RASTER_SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg"})
_ARCHIVE_SUFFIXES = frozenset({".zip", ".tar"})
_BAND_SUFFIXES = (".tif", ".tiff", ".jp2")
_RADAR = "_s1.tif"
_LISTED = 20
ACCEPTED = (
    "a GeoTIFF, a Sentinel-2 product or Landsat scene as a folder, zip or tar archive, its metadata file, a folder of "
    "one raster file a band, or a STAC item; files and items also by address (https://…, s3://…)"
)
_SENTINEL1 = (
    "a Sentinel-1 GRD product holds amplitudes in the geometry of the orbit, without terrain correction. Calibrate and "
    "terrain-correct it first (ESA SNAP: Calibration to sigma0 or gamma0, Range-Doppler Terrain Correction, "
    "LinearToFromdB), and give the GeoTIFF with VV and VH in decibels; catalogues also offer it ready-made (RTC)."
)


def radar_beside(path: Path | str) -> Path | None:
    """The Sentinel-1 scene that lies beside an optical one by its name, ``<scene>_s1.tif``; or None."""
    if isinstance(path, str):
        return None
    candidate = path.parent / f"{path.stem if path.is_file() else path.name.removesuffix('.SAFE')}{_RADAR}"
    return candidate if candidate.is_file() and not is_radar(path) else None


def is_radar(path: Path) -> bool:
    """Whether a file is named as the radar partner of a scene."""
    return path.name.endswith(_RADAR)


def looks_like_scene(path: Path) -> bool:
    """Whether a path may be a scene, by names only: nothing is opened."""
    if not path.is_dir():
        return path.suffix.lower() in RASTER_SUFFIXES | _ARCHIVE_SUFFIXES
    try:
        names = [file.name for file in path.iterdir()]
    except OSError:  # lost+found, or gone since the listing
        return False
    is_product = path.suffix.upper() == ".SAFE" or any(METADATA.fullmatch(name) for name in names)
    return is_product or TILE_METADATA in names or bool(metadata_files(names))


def scene_paths(path: Path | str) -> list[Path | str]:
    """The scenes that one name stands for: each of a folder of Landsat scenes, or of a STAC list or collection.

    Raises:
        InvalidScene: If a STAC file cannot be read or leads to no scene.
    """
    if _names_stac(path):
        return stac_scenes(path)
    if isinstance(path, str) or not path.is_dir():
        return [path]
    files = metadata_files([file.name for file in path.iterdir()])
    return [path / file for file in files] if len(files) > 1 else [path]


def open_scene(
    path: Path | str, bands: Sequence[str] | None = None, instrument: str | None = None, scaling: Scaling | None = None
) -> SceneSource:
    """Describes the scene at a path; nothing but headers and metadata is read.

    Args:
        path: As :data:`ACCEPTED` says; also a granule of an old Sentinel-2 product, or a band of a 38-Cloud patch.
        bands: Names of the bands of a raster file in their order, where the file does not tell; ``-``: not used.
        instrument: Key in :data:`cloud_assets.bands.INSTRUMENTS`, where the files do not tell; ``…_s1.tif`` is radar.
        scaling: From the numbers of a raster file to physical units, where the file does not tell.

    Raises:
        InvalidScene: If there is nothing, nothing known, or several scenes; other errors as the formats raise them.
    """
    path = located(path)
    if _names_stac(path):
        return open_stac(path, instrument, scaling)
    if isinstance(path, str):
        return open_geotiff(path, bands, instrument, scaling)
    path = path.absolute() if path.name == "" else path
    if not path.exists():
        raise InvalidScene(f"{path} does not exist. Correct the path; a relative one starts at {Path.cwd()}.")
    if path.is_file() and is_patch(path):
        return open_patch(path)
    if path.is_file() and path.suffix.lower() in RASTER_SUFFIXES:
        return open_geotiff(path, bands, instrument or ("sentinel1_grd" if is_radar(path) else None), scaling)
    if path.is_dir() or is_archive(path):
        granule = path.name if path.parent.name == "GRANULE" else None
        return _open_container(open_container(path.parents[1] if granule else path), granule, instrument, scaling)
    if metadata_files([path.name]) or METADATA.fullmatch(path.name) or path.name == TILE_METADATA:
        return _open_member(open_container(path.parent), path.name, None)
    if path.suffix.lower() in _ARCHIVE_SUFFIXES:
        raise InvalidScene(f"{path} is damaged or no {path.suffix} archive at all. Download it again.")
    raise InvalidScene(f"{path} is no scene: expected {ACCEPTED}.")


def _names_stac(path: Path | str) -> bool:
    """Whether a path or address is a STAC file by its name, and no metadata file of a product."""
    name = PurePosixPath(str(path).partition("#")[0]).name
    return name.lower().endswith((".json", ".geojson")) and not metadata_files([name]) and name != TILE_METADATA


def _open_container(
    container: Container, granule: str | None, instrument: str | None, scaling: Scaling | None
) -> SceneSource:
    """Opens the one scene that a folder or archive holds, by its metadata file wherever that lies."""
    folders: dict[str, list[str]] = {}
    for member in container.members:
        folder, _, name = member.rpartition("/")
        folders.setdefault(folder, []).append(name)
    products = [
        (folder, name)
        for folder, names in sorted(folders.items())
        for name in (*filter(METADATA.fullmatch, names), *metadata_files(names), *({TILE_METADATA} & set(names)))
        if "GRANULE" not in PurePosixPath(folder).parts
    ]
    if len(products) == 1:
        ((folder, name),) = products
        return _open_member(container.below(folder), name, granule)
    if products:
        listed = ", ".join(str(container.location / folder / name) for folder, name in products[:_LISTED])
        raise InvalidScene(f"{container.location} holds {len(products)} scenes: name the metadata of one: {listed}.")
    if re.match(r"S1[A-D]_", container.name) or any(PurePosixPath(folder).name == "measurement" for folder in folders):
        raise InvalidScene(f"{container.location}: {_SENTINEL1}")
    if container.name.upper().endswith(".SAFE") or any("GRANULE" in PurePosixPath(folder).parts for folder in folders):
        raise InvalidScene(
            f"{container.location}: no MTD_MSIL1C.xml or MTD_MSIL2A.xml in it, so scale and offset of its numbers are "
            "unknown. Download the whole product again."
        )
    holding = [folder for folder, names in folders.items() if any(n.lower().endswith(_BAND_SUFFIXES) for n in names)]
    if len(holding) == 1:
        return open_band_folder(container.below(holding[0]), instrument, scaling)
    raise InvalidScene(f"{container.location} is no scene: expected {ACCEPTED}.")


def _open_member(folder: Container, name: str, granule: str | None) -> SceneSource:
    if METADATA.fullmatch(name):
        return open_product(folder, name, granule)
    return open_tile(folder) if name == TILE_METADATA else open_landsat(folder, name)
