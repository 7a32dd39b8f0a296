"""Sentinel-2 products, Level-1C or Level-2A: ESA's SAFE layout of all baselines, and the tiles of the AWS archive.

Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD; the radiometric offset came with processing baseline
04.00 (https://sentinels.copernicus.eu/web/sentinel/-/copernicus-sentinel-2-major-products-upgrade-upcoming). Before
December 2016 a product held many granules (tiles), each of them a scene, and longer names.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.scene import RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.container import Container, parsed_xml
from cloud_assets.imagery.formats.names import safe_name
from cloud_assets.imagery.formats.scaling import SENTINEL2_OFFSET, SENTINEL2_OFFSET_SINCE
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneBand, SceneSource, finest_grid

METADATA: Final = re.compile(r"MTD_MSIL(1C|2A)\.xml|S2[A-D]_\w{4}_MTD_(?:SAF|DMP)?L?(1C|2A)\w*\.xml")
"""Names of a product's metadata file: compact, and of before December 2016."""
TILE_METADATA: Final = "tileInfo.json"  # the metadata file of a tile in the AWS archive
_IMAGE = re.compile(r"(?:.*/)?[^/]*?(?P<band>B\d[0-9A])(?:_(?P<metres>\d0)m)?\.(jp2|tif|tiff)")
_QUANTIFICATION = 10_000.0
_QUANTIFICATION_TAGS = ("QUANTIFICATION_VALUE", "BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE")
_BAND_IDS = {name: str(index) for index, name in enumerate(INSTRUMENTS["sentinel2_l1c"].names)}
"""The numbers under which the metadata list the bands, B8A being the ninth."""


def open_product(product: Container, metadata: str, granule: str | None = None) -> SceneSource:
    """Describes a Sentinel-2 product; all bands are brought to its finest grid.

    The product is the ``.SAFE`` folder in whatever holds it, and one granule of it where it has several.
    """
    where = f"{product.location}: {metadata}"
    match = METADATA.fullmatch(metadata)
    level = (match[1] or match[2]).lower() if match else "1c"
    tree = parsed_xml(product.read(metadata), where)
    texts = [text for tag in _QUANTIFICATION_TAGS if (text := _text(tree, tag)) is not None]
    try:
        quantification = float(texts[0])
    except (IndexError, ValueError) as error:
        tags = " or ".join(_QUANTIFICATION_TAGS[:2])
        raise InvalidScene(f"{where} holds no number {tags}. Download the product again.") from error
    if not 0 < quantification < float("inf"):
        raise InvalidScene(f"{where}: the quantification value is {quantification}: impossible. Download it again.")
    try:  # none in products of before baseline 04.00
        offsets = {
            element.get("band_id", ""): float(element.text or "")
            for tag in ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET")
            for element in tree.iter(tag)
        }
    except ValueError as error:
        raise InvalidScene(f"{where}: an offset is no number ({error}). Download the product again.") from error
    name, images = _granule(product, granule, level)
    return _source(
        product,
        name,
        level,
        images,
        quantification,
        offsets,
        _time(_text(tree, "PRODUCT_START_TIME")),
        {
            "processing_baseline": _text(tree, "PROCESSING_BASELINE") or "unknown",
            "satellite": _text(tree, "SPACECRAFT_NAME") or "unknown",
            **({STATED_CLOUD: stated} if (stated := _text(tree, "Cloud_Coverage_Assessment")) else {}),
        },
    )


def open_tile(tile: Container) -> SceneSource:
    """Describes a tile of the AWS archive (``tiles/19/U/DP/2017/7/29/0``).

    Its metadata give no scale and offset: these follow from level and processing baseline, in the product's name.
    """
    where = f"{tile.location}: {TILE_METADATA}"
    try:
        content = json.loads(tile.read(TILE_METADATA))
        product = str(content["productName"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidScene(f"{where} names no product ({error}). Download it again.") from error
    match = re.search(r"MSIL(1C|2A)_\d{8}T\d{6}_N(\d{2})(\d{2})", product)
    if match is None:
        match = re.search(r"_(1C|2A)_.*?_N(\d{2})\.(\d{2})", f"{product}_{content.get('datastrip', {}).get('id', '')}")
    if match is None:
        raise InvalidScene(f"{where}: {product} tells no level and processing baseline. Download the SAFE product.")
    has_offset = (int(match[2]), int(match[3])) >= SENTINEL2_OFFSET_SINCE
    offsets = dict.fromkeys(_BAND_IDS.values(), SENTINEL2_OFFSET) if has_offset else {}
    attributes = {"processing_baseline": f"{match[2]}.{match[3]}", "satellite": f"Sentinel-2{product[2]}"}
    if "cloudyPixelPercentage" in content:
        attributes[STATED_CLOUD] = str(content["cloudyPixelPercentage"])
    level = match[1].lower()
    images = {path: size for path, size in tile.members.items() if not path.startswith(("preview", "qi/", "auxiliary"))}
    acquired = _time(content.get("timestamp"))
    return _source(tile, product, level, images, _QUANTIFICATION, offsets, acquired, attributes)


def _granule(product: Container, wanted: str | None, level: str) -> tuple[str, Mapping[str, int]]:
    """Name of the scene and the members of its granule."""
    granules: dict[str, dict[str, int]] = {}
    for path, size in product.members.items():
        parts = PurePosixPath(path).parts
        if len(parts) > 3 and parts[0] == "GRANULE" and "IMG_DATA" in parts:
            granules.setdefault(parts[1], {})[path] = size
    name = product.name.removesuffix(".SAFE")
    if not granules:
        raise InvalidData(f"{product.location} has no GRANULE/*/IMG_DATA/*_B??.jp2. Download the whole product again.")
    if wanted is not None and wanted not in granules:
        raise InvalidScene(f"{product.location} has no granule {wanted}; it has {', '.join(sorted(granules))}.")
    if wanted is None and len(granules) > 1:
        listed = ", ".join(f"GRANULE/{granule}" for granule in sorted(granules)[:20])
        raise InvalidScene(
            f"{product.location} holds {len(granules)} granules (tiles), as products of before December 2016 do; each "
            f"is a scene of its own. Name the folder of one: {listed}."
        )
    if wanted is None or len(granules) == 1:
        return name, next(iter(granules.values()))
    return wanted, granules[wanted]


def _source(
    product: Container,
    name: str,
    level: str,
    images: Mapping[str, int],
    quantification: float,
    offsets: Mapping[str, float],
    acquired: datetime | None,
    attributes: Mapping[str, str],
) -> SceneSource:
    profile = INSTRUMENTS[f"sentinel2_l{level}"]
    finest: dict[str, tuple[int, str]] = {}
    for member in sorted(images):
        match = _IMAGE.fullmatch(member)
        if match and match["band"] in profile.names:
            metres = int(match["metres"] or 0)
            finest[match["band"]] = min(finest.get(match["band"], (metres, member)), (metres, member))
    bands = {
        band: SceneBand(
            RasterBand(product.gdal_path(finest[band][1])),
            1 / quantification,
            offsets.get(_BAND_IDS[band], 0.0) / quantification,
            nodata=0,
        )
        for band in profile.names
        if band in finest
    }
    if not bands:
        raise InvalidData(f"{product.location}: no band (IMG_DATA/*_B??.jp2) in it. Download the whole product again.")
    return SceneSource(
        name=safe_name(name),
        instrument=profile.name,
        bands=bands,
        grid=finest_grid(bands, profile),
        location=str(product.location),
        fingerprint=product.fingerprint,
        acquired=acquired,
        attributes=dict(attributes),
        container=product,
    )


def _text(tree: Element, tag: str) -> str | None:
    return next((element.text for element in tree.iter(tag) if element.text), None)


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return None
