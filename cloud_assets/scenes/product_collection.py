"""A STAC collection over a folder of scene products (https://stacspec.org)."""

import json
from datetime import UTC, datetime
from pathlib import Path

from cloud_assets.scenes.stac import STAC_FILE
from cloud_assets.storage import atomic_file

COLLECTION_FILE = "collection.json"


def write_collection(out_dir: Path) -> Path | None:
    """Writes the collection of all finished products in a folder, so that catalogues and QGIS open them as one.

    Args:
        out_dir: The folder that holds one folder a scene.

    Returns:
        The file; None if no scene has products yet.
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
    whole = [
        *(min(box[place] for box in boxes) for place in (0, 1)),
        *(max(box[place] for box in boxes) for place in (2, 3)),
    ]
    extent = pystac.Extent(
        pystac.SpatialExtent([whole, *boxes] if len(boxes) > 1 else boxes or [[-180.0, -90.0, 180.0, 90.0]]),
        pystac.TemporalExtent([[min(times, default=None), max(times, default=None)]]),
    )
    collection = pystac.Collection(
        id=out_dir.resolve().name or "scene_products",
        description=f"Cloud masks and other products of {len(items)} scenes.",
        extent=extent,
        extra_fields={"updated": datetime.now(UTC).isoformat().replace("+00:00", "Z")},
    )
    for path, item in items:
        href = f"./{path.relative_to(out_dir).as_posix()}"
        collection.add_link(pystac.Link(pystac.RelType.ITEM, href, pystac.MediaType.GEOJSON, item.id))
    with atomic_file(out_dir / COLLECTION_FILE) as temporary:
        content = collection.to_dict(include_self_link=False, transform_hrefs=False)
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    return out_dir / COLLECTION_FILE
