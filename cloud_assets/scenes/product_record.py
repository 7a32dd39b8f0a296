"""The record of a scene's products (``products.json``), their STAC item, and a folder of them as a STAC collection."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.geometry import footprint
from cloud_assets.imagery.writing import RasterDraft, legend_colours
from cloud_assets.storage import atomic_file
from cloud_assets.version import __version__

if TYPE_CHECKING:
    import pystac

RECORD_FILE = "products.json"


@dataclass(frozen=True)
class SceneProducts:
    """The products of one scene."""

    name: str
    directory: Path
    files: Mapping[str, str]  # product -> file name in the directory; also "quicklook", "page" and "stac"
    statistics: Mapping[str, float]  # percentages, scores, seconds, megapixels per second
    models: Mapping[str, str]  # "task/variant" -> version of each model that had a part
    warnings: tuple[str, ...]
    source: str  # where the scene lay
    fingerprint: str  # hash of the scene, the models and the options: equal means up to date
    back_end: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)  # what the scene's metadata told
    is_new: bool = True  # False if the products were up to date and nothing was done

    @property
    def paths(self) -> dict[str, Path]:
        """Product -> path."""
        return {product: self.directory / name for product, name in self.files.items()}

    def save(self, directory: Path) -> None:
        """Writes the record into a folder that holds the files."""
        content = {**asdict(self), "directory": None, "is_new": None}
        kept = {key: value for key, value in content.items() if value is not None}
        # JSON has no number for "not a number": such statistics are left out.
        kept["statistics"] = {key: value for key, value in self.statistics.items() if value == value}
        text = json.dumps(kept, indent=2, ensure_ascii=False, allow_nan=False)
        (directory / RECORD_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads the record of finished products.

        Raises:
            InvalidScene: If the folder holds no products, or they are incomplete.
        """
        try:
            content: dict[str, Any] = json.loads((directory / RECORD_FILE).read_text(encoding="utf-8"))
            found = cls(directory=directory, **{**content, "warnings": tuple(content["warnings"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidScene(f"{directory} has no finished products ({error}). Make them (predict).") from error
        missing = [path.name for path in found.paths.values() if not path.is_file()]
        if missing:
            raise InvalidScene(f"{directory}: {', '.join(missing)} of the products are gone. Make them again.")
        return replace(found, is_new=False)


def predicted_scenes(folder: Path, task: str) -> Iterator[SceneProducts]:
    """Finished products anywhere in a folder in which a task's model had a part, by name."""
    for record in sorted(folder.rglob(RECORD_FILE)):
        if any(part.startswith(".") for part in record.relative_to(folder).parts):
            continue
        try:
            products = SceneProducts.open(record.parent)
        except InvalidScene:
            continue  # being replaced at this moment, or incomplete: its next version will be seen
        if any(model.partition("/")[0] == task for model in products.models):
            yield products


STAC_FILE = "stac_item.json"
_SCHEMAS = "https://stac-extensions.github.io"
_EO = f"{_SCHEMAS}/eo/v2.0.0/schema.json"
_PROJECTION = f"{_SCHEMAS}/projection/v2.0.0/schema.json"
PROCESSING = f"{_SCHEMAS}/processing/v1.1.0/schema.json"
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
    """The STAC item of a scene's products, JSON content with links relative to the products' folder."""
    import pystac

    path = Path(source.location)
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else datetime.now(UTC)
    item = placed_item(
        source.name,
        source.grid,
        datetime=source.acquired or written,
        properties=_properties(source, products),
        stac_extensions=[_PROJECTION, PROCESSING],
    )
    cloud_cover = products.statistics.get("cloud_percentage")
    if cloud_cover is not None and cloud_cover == cloud_cover:
        item.stac_extensions.append(_EO)
        item.properties["eo:cloud_cover"] = round(cloud_cover, 3)
    for product, draft in drafts.items():
        fields = _raster(draft.grid)
        if draft.form.classes:
            colours = legend_colours(draft.form.colours)
            fields["classification:classes"] = [
                {"value": code, "name": name.replace(" ", "_"), "description": name, "color_hint": colours[code]}
                for code, name in draft.form.classes.items()
            ]
        asset = pystac.Asset(f"./{products.files[product]}", titles[product], None, _COG, ["data"], fields)
        item.add_asset(product, asset)
    if any(draft.form.classes for draft in drafts.values()):
        item.stac_extensions.append(_CLASSIFICATION)
    for name, (media_type, roles, title) in _OTHER_ASSETS.items():
        item.add_asset(name, pystac.Asset(f"./{products.files[name]}", title, None, media_type, roles))
    content: dict[str, Any] = item.to_dict(include_self_link=False)
    return content


def placed_item(name: str, grid: Grid, **fields: Any) -> "pystac.Item":
    """A STAC item where a grid lies."""
    import pystac

    geometry, bbox = footprint(grid) or (None, None)
    return pystac.Item(id=name, geometry=geometry, bbox=list(bbox) if bbox else None, **fields)


def timestamp() -> str:
    """The present time as STAC writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _properties(source: SceneSource, products: SceneProducts) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "created": timestamp(),
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
    crs = {} if grid.crs is None else {"proj:code" if grid.crs.startswith("EPSG:") else "proj:wkt2": grid.crs}
    place = {"proj:shape": [grid.height, grid.width], "proj:transform": list(grid.transform)}
    return {**place, "proj:code": None, **crs}


COLLECTION_FILE = "collection.json"


def refuse_other_files(path: Path, record: str, *sources: Path | str) -> None:
    """Guards a folder that is about to be replaced: it may hold what its ``record`` describes, and no source of it.

    Raises:
        InvalidScene: If it holds anything else.
    """
    is_ours = (path / record).is_file() or (path.is_dir() and not any(path.iterdir())) or not path.exists()
    if not is_ours or any(Path(source).resolve().is_relative_to(path.resolve()) for source in sources):
        raise InvalidScene(f"{path} holds files of yours and would be replaced: write to another folder (--out).")


def write_collection(out_dir: Path) -> Path | None:
    """Writes the collection of all finished products in a folder of scenes' folders; None if there are none.

    Catalogues and QGIS open them as one.
    """
    import pystac

    items = []
    for path in sorted(out_dir.glob(f"[!.]*/{STAC_FILE}")):
        try:
            items.append((path, pystac.Item.from_file(str(path))))
        except (OSError, ValueError, KeyError, pystac.STACError):  # being replaced by another process right now
            continue
    if not items:
        return None
    boxes = [list(item.bbox) for _, item in items if item.bbox is not None]
    times = [time for _, item in items if (time := item.datetime or item.common_metadata.start_datetime) is not None]
    whole = [[choose(sides) for choose, sides in zip((min, min, max, max), zip(*boxes, strict=True), strict=False)]]
    extent = pystac.Extent(
        pystac.SpatialExtent([*whole, *boxes] if len(boxes) > 1 else boxes or [[-180.0, -90.0, 180.0, 90.0]]),
        pystac.TemporalExtent([[min(times, default=None), max(times, default=None)]]),
    )
    collection = pystac.Collection(
        id=out_dir.resolve().name or "scene_products",
        description=f"Cloud masks and other products of {len(items)} scenes.",
        extent=extent,
        extra_fields={"updated": timestamp()},
    )
    for path, item in items:
        href = f"./{path.relative_to(out_dir).as_posix()}"
        collection.add_link(pystac.Link(pystac.RelType.ITEM, href, pystac.MediaType.GEOJSON, item.id))
    with atomic_file(out_dir / COLLECTION_FILE) as temporary:
        content = collection.to_dict(include_self_link=False, transform_hrefs=False)
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    return out_dir / COLLECTION_FILE
