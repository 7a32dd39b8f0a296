"""Sentinel-2 products in ESA's SAFE layout, Level-1C or Level-2A, as a folder or still in their zip archive.

Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD; the radiometric offset came with processing baseline
04.00 (https://sentinels.copernicus.eu/web/sentinel/-/copernicus-sentinel-2-major-products-upgrade-upcoming).
A zip archive is never unpacked: its rasters are read where they lie, so it cannot write anything anywhere.
"""

import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.file_names import safe_name
from cloud_assets.imagery.formats.safe_xml import parsed_xml
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneBand, SceneSource, file_fingerprint

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_METADATA = re.compile(r"MTD_MSIL(1C|2A)\.xml")
# …/IMG_DATA/T32TQM_20240131T101010_B02.jp2, and in Level-2A …/IMG_DATA/R10m/…_B02_10m.jp2
_IMAGE = re.compile(r"(?P<folders>.*/)?IMG_DATA/(R\d0m/)?[^/]*_(?P<band>B\d[0-9A])(_(?P<metres>\d0)m)?\.(jp2|tif|tiff)")
_LARGEST_METADATA = 64 << 20
_NO_DATA = 0


@dataclass(frozen=True)
class _Product:
    """Where a product's members lie."""

    location: Path
    folder: str
    """GDAL path of the ``.SAFE`` folder."""
    name: str
    members: Mapping[str, int]
    """Path below the ``.SAFE`` folder -> size in bytes."""
    fingerprint: str

    def read(self, member: str) -> bytes:
        """The bytes of a small member."""
        if self.members[member] > _LARGEST_METADATA:
            raise InvalidScene(f"{self.location}: {member} is larger than any metadata file of a product is.")
        if not zipfile.is_zipfile(self.location):
            return (self.location / member).read_bytes()
        with zipfile.ZipFile(self.location) as archive:
            return archive.read(f"{self.name}/{member}")


def is_safe(path: Path) -> bool:
    """Whether a path looks like a Sentinel-2 product: its name, or the metadata file in it."""
    if path.is_dir():
        return path.suffix.upper() == ".SAFE" or any(path.glob("MTD_MSIL*.xml"))
    return path.suffix.lower() == ".zip"


def open_safe(path: Path) -> SceneSource:
    """Describes a Sentinel-2 product; all bands are brought to its 10 m grid.

    Args:
        path: The ``.SAFE`` folder, or a zip archive that holds one.

    Raises:
        InvalidScene: If metadata are missing or damaged.
        InvalidData: If a member of the archive, or a link in the folder, leads out of it.
        InvalidData: If the archive is truncated or is none.
        InvalidData: If there is no band at all.
        InvalidData: If the raster that gives the grid cannot be opened.
    """
    product = _zipped(path) if path.is_file() else _unpacked(path)
    metadata = next((name for name in product.members if _METADATA.fullmatch(name)), None)
    if metadata is None:
        raise InvalidScene(
            f"{path}: no MTD_MSIL1C.xml or MTD_MSIL2A.xml in it, so scale and offset of its numbers are unknown. "
            "Download the whole product again."
        )
    level = "l1c" if "L1C" in metadata else "l2a"
    profile = INSTRUMENTS[f"sentinel2_{level}"]
    tree = _parsed(product, metadata)
    quantification = _number(tree, ("QUANTIFICATION_VALUE", "BOA_QUANTIFICATION_VALUE"), path)
    offsets = _offsets(tree, path)
    finest: dict[str, tuple[int, str]] = {}
    for member in sorted(product.members):
        match = _IMAGE.fullmatch(member)
        if match and match["band"] in profile.names:
            metres = int(match["metres"] or 0)
            finest[match["band"]] = min(finest.get(match["band"], (metres, member)), (metres, member))
    bands = {
        name: SceneBand(
            RasterBand(f"{product.folder}/{finest[name][1]}"),
            1 / quantification,
            offsets.get(_BAND_IDS[name], 0.0) / quantification,
            _NO_DATA,
        )
        for name in profile.names
        if name in finest
    }
    if not bands:
        raise InvalidData(f"{path}: no GRANULE/*/IMG_DATA/*_B??.jp2 in it. Download the whole product again.")
    grid, is_upsampled = _finest_grid([band.raster.path for band in bands.values()])
    return SceneSource(
        name=safe_name(product.name.removesuffix(".SAFE")),
        instrument=profile.name,
        bands=bands,
        grid=grid,
        location=str(path),
        fingerprint=product.fingerprint,
        acquired=_time(tree),
        warnings=("Bands of 20 m and 60 m were resampled to the finest grid.",) if is_upsampled else (),
        attributes={
            "processing_baseline": _text(tree, "PROCESSING_BASELINE") or "unknown",
            "satellite": _text(tree, "SPACECRAFT_NAME") or "unknown",
            **({STATED_CLOUD: stated} if (stated := _text(tree, "Cloud_Coverage_Assessment")) else {}),
        },
    )


_BAND_IDS = {name: str(index) for index, name in enumerate(INSTRUMENTS["sentinel2_l1c"].names)}
"""The numbers under which the metadata list the bands, B8A being the ninth."""


def _unpacked(path: Path) -> _Product:
    root = path.resolve()
    files = [file for file in sorted(path.rglob("*")) if file.is_file() or file.is_symlink()]
    for file in files:
        if not file.resolve().is_relative_to(root):
            raise InvalidData(f"{file} leads out of the product, to {file.resolve()}. Do not use this product.")
    members = {file.relative_to(path).as_posix(): file.stat().st_size for file in files if file.is_file()}
    return _Product(path, str(path), path.name, members, file_fingerprint([file for file in files if file.is_file()]))


def _zipped(path: Path) -> _Product:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InvalidData(f"{path} is truncated or no zip archive ({error}). Download it again.") from error
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        if not parts or parts[0].startswith("/") or ":" in parts[0] or ".." in parts:
            raise InvalidData(f"{path} holds {member.filename!r}, which leads out of its folder. Do not use it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InvalidData(f"{path} holds the link {member.filename!r}; no product has one. Do not use it.")
    roots = {PurePosixPath(member.filename).parts[0] for member in members if _METADATA.search(member.filename)}
    if len(roots) != 1:
        raise InvalidScene(f"{path} holds {len(roots)} Sentinel-2 products; give archives of exactly one.")
    (root,) = roots
    below = {
        member.filename.removeprefix(f"{root}/"): member.file_size
        for member in members
        if member.filename.startswith(f"{root}/") and not member.is_dir()
    }
    return _Product(path, f"/vsizip/{path.resolve()}/{root}", root, below, file_fingerprint([path]))


def _parsed(product: _Product, member: str) -> "Element":
    return parsed_xml(product.read(member), f"{product.location}: {member}")


def _offsets(tree: "Element", path: Path) -> dict[str, float]:
    """Band number -> offset in digital numbers; empty for products of before baseline 04.00."""
    try:
        return {
            element.get("band_id", ""): float(element.text or "")
            for tag in ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET")
            for element in tree.iter(tag)
        }
    except ValueError as error:
        raise InvalidScene(f"{path}: an offset in the metadata is no number ({error}). Download it again.") from error


def _number(tree: "Element", tags: Sequence[str], path: Path) -> float:
    texts = [text for tag in tags if (text := _text(tree, tag)) is not None]
    try:
        value = float(texts[0])
    except (IndexError, ValueError) as error:
        raise InvalidScene(f"{path}: the metadata hold no number {' or '.join(tags)}. Download it again.") from error
    if not 0 < value < float("inf"):
        raise InvalidScene(f"{path}: the quantification value is {value}, which is impossible. Download it again.")
    return value


def _text(tree: "Element", tag: str) -> str | None:
    return next((element.text for element in tree.iter(tag) if element.text), None)


def _time(tree: "Element") -> datetime | None:
    try:
        return datetime.fromisoformat(_text(tree, "PRODUCT_START_TIME") or "")
    except ValueError:
        return None


def _finest_grid(paths: Sequence[str]) -> tuple[Grid, bool]:
    """The grid with the smallest pixels among some rasters, and whether the rasters differ in it."""
    headers = [read_header(path) for path in paths]
    finest = min(headers, key=lambda header: abs(header.transform[0]))
    grid = Grid(finest.height, finest.width, finest.crs, finest.transform)
    return grid, len({(header.height, header.width) for header in headers}) > 1
