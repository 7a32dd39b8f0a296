"""A scene's products as a STAC item (https://stacspec.org)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud_assets.datasets.scene import Grid
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.geometry import footprint
from cloud_assets.imagery.writing.pictures import legend_colours
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.version import __version__

STAC_FILE = "stac_item.json"
_SCHEMAS = "https://stac-extensions.github.io"
_EO = f"{_SCHEMAS}/eo/v2.0.0/schema.json"
_PROJECTION = f"{_SCHEMAS}/projection/v2.0.0/schema.json"
_PROCESSING = f"{_SCHEMAS}/processing/v1.1.0/schema.json"
_CLASSIFICATION = f"{_SCHEMAS}/classification/v2.0.0/schema.json"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_OTHER_ASSETS = {
    "quicklook": ("image/png", ["overview", "thumbnail"], "Quick-look"),
    "page": ("text/html", ["overview"], "All products side by side"),
}
_PLATFORMS = {"sentinel2": "Sentinel-2", "landsat8": "Landsat 8/9", "sentinel1": "Sentinel-1"}


def stac_item(
    source: SceneSource, products: SceneProducts, drafts: Mapping[str, RasterDraft], titles: Mapping[str, str]
) -> dict[str, Any]:
    """Describes the products of a scene.

    Returns:
        The item as JSON content; links are relative to the products' folder.
    """
    import pystac

    outline = footprint(source.grid)
    item = pystac.Item(
        id=source.name,
        geometry=outline[0] if outline else None,
        bbox=list(outline[1]) if outline else None,
        datetime=source.acquired or _file_time(source),
        properties=_properties(source, products),
        stac_extensions=[_PROJECTION, _PROCESSING],
    )
    cloud_cover = products.statistics.get("cloud_percentage")
    if cloud_cover is not None and cloud_cover == cloud_cover:
        item.stac_extensions.append(_EO)
        item.properties["eo:cloud_cover"] = round(cloud_cover, 3)
    for product, draft in drafts.items():
        fields = _raster(draft.grid)
        if draft.form.classes:
            fields["classification:classes"] = _classes(draft.form)
        item.add_asset(
            product, pystac.Asset(f"./{products.files[product]}", titles[product], None, _COG, ["data"], fields)
        )
    if any(draft.form.classes for draft in drafts.values()):
        item.stac_extensions.append(_CLASSIFICATION)
    for name, (media_type, roles, title) in _OTHER_ASSETS.items():
        item.add_asset(name, pystac.Asset(f"./{products.files[name]}", title, None, media_type, roles))
    content: dict[str, Any] = item.to_dict(include_self_link=False)
    return content


def _properties(source: SceneSource, products: SceneProducts) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "processing:software": {"cloud-assets": __version__, **products.models},
        "processing:lineage": f"Predicted from {source.instrument} by {', '.join(products.models)}.",
    }
    platform = source.attributes.get("satellite") or _PLATFORMS.get(source.instrument.partition("_")[0])
    if platform:
        properties["platform"] = platform
    if source.acquired is None:
        properties["cloud_assets:datetime_is_file_time"] = True
    if products.warnings:
        properties["cloud_assets:warnings"] = list(products.warnings)
    properties.update({f"cloud_assets:{name}": value for name, value in products.statistics.items() if value == value})
    return properties


def _raster(grid: Grid) -> dict[str, Any]:
    fields: dict[str, Any] = {"proj:shape": [grid.height, grid.width], "proj:transform": list(grid.transform)}
    if grid.crs is None:
        return {**fields, "proj:code": None}
    if grid.crs.startswith("EPSG:"):
        return {**fields, "proj:code": grid.crs}
    return {**fields, "proj:code": None, "proj:wkt2": grid.crs}


def _classes(form: RasterForm) -> list[dict[str, Any]]:
    hexadecimal = legend_colours(form.colours)
    return [
        {"value": code, "name": name.replace(" ", "_"), "description": name, "color_hint": hexadecimal[code]}
        for code, name in form.classes.items()
    ]


def _file_time(source: SceneSource) -> datetime:
    path = Path(source.location)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else datetime.now(UTC)
