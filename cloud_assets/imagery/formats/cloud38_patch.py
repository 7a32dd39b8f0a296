"""A patch of the 38-Cloud data set as a scene: four single-band files in four folders, named by any one of them."""

import re
from pathlib import Path

from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.imagery.formats.container import file_fingerprint
from cloud_assets.imagery.formats.file_names import safe_name
from cloud_assets.imagery.formats.scene_reader import SceneBand
from cloud_assets.imagery.formats.scene_source import SceneSource

_COLOURS = {"red": "B4", "green": "B3", "blue": "B2", "nir": "B5"}
_FOLDER = re.compile(r"(train|test)_(red|green|blue|nir)")
_FILE = re.compile(r"(red|green|blue|nir)_(patch_\d+_.+)", re.IGNORECASE)
_INSTRUMENTS = {"uint16": "landsat8_l1", "uint8": "landsat8_l1_8bit"}


def is_patch(path: Path) -> bool:
    """Whether a file lies and is named as 38-Cloud's bands are."""
    return _FOLDER.fullmatch(path.parent.name) is not None and _FILE.fullmatch(path.stem) is not None


def open_patch(path: Path) -> SceneSource:
    """Describes the patch that a band file belongs to; bands whose file is missing are left out.

    Args:
        path: The file of one of its bands.

    Raises:
        InvalidData: If the file cannot be read.
    """
    folder, file = _FOLDER.fullmatch(path.parent.name), _FILE.fullmatch(path.stem)
    if folder is None or file is None:
        raise ValueError(f"{path} is no band of a 38-Cloud patch")
    header = read_header(str(path))
    bands, files = {}, []
    for colour, name in _COLOURS.items():
        candidate = path.parent.parent / f"{folder[1]}_{colour}" / f"{colour}_{file[2]}{path.suffix}"
        if candidate.is_file():
            bands[name] = SceneBand(RasterBand(str(candidate)))
            files.append(candidate)
    return SceneSource(
        name=safe_name(file[2]),
        instrument=_INSTRUMENTS.get(header.dtype, "landsat8_l1"),
        bands=bands,
        grid=Grid(header.height, header.width, header.crs, header.transform),
        location=str(path),
        fingerprint=file_fingerprint(files),
        warnings=() if header.crs else ("The patch has no coordinate reference system: products are in pixels.",),
    )
