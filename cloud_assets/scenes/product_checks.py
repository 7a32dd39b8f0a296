"""What can be wrong with finished products although nothing failed: found by reading them again, at low cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.errors import CloudAssetsError
from cloud_assets.imagery.formats.names import located
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneSource
from cloud_assets.imagery.geometry import thumbnail_shape
from cloud_assets.scenes.planning import declared_rasters
from cloud_assets.scenes.product_record import SceneProducts

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.io import DatasetReader

CLOUD_COVER, GEOREFERENCE, NODATA = "cloud_cover_plausible", "georeference_of_the_scene", "no_unexpected_nodata"
NEARLY_ALL = 99.5  # percentage of cloud from which a mask is suspicious: overcast, or read with the wrong instrument
FAR_APART = 50.0  # percentage points between two estimates of the cloud cover from which one of them is wrong
MOST_UNEXPECTED = 0.001
"""Share of a scene's pixels whose nodata may differ from the scene's; bands of one scene end at different pixels."""
_ROUNDING = 0.01
_LOOKED_AT = 1024
_MARGIN = 2


@dataclass(frozen=True)
class Finding:
    """The result of one check of one scene."""

    check: str
    passed: bool
    said: str


def check_products(
    products: SceneProducts,
    bands: Sequence[str] | None = None,
    instrument: str | None = None,
    scaling: Scaling | None = None,
) -> tuple[Finding, ...]:
    """Checks the products of a scene against each other and against the scene, read as it was when they were made.

    Returns:
        A finding for each of :data:`CLOUD_COVER`, :data:`GEOREFERENCE`, :data:`NODATA`.
    """
    try:
        source = open_scene(located(products.source), bands, instrument, scaling)
        return (
            Finding(CLOUD_COVER, *_cloud_cover(products)),
            Finding(GEOREFERENCE, *_georeference(products, source)),
            Finding(NODATA, *_nodata(products, source)),
        )
    except (CloudAssetsError, OSError) as error:
        return tuple(Finding(check, False, str(error)) for check in (CLOUD_COVER, GEOREFERENCE, NODATA))


def _cloud_cover(products: SceneProducts) -> tuple[bool, str]:
    found = products.statistics.get("cloud_percentage")
    if "mask" not in products.files:
        return True, "no cloud mask"
    counted = _counted(products.paths["mask"])
    if found is None or found != found:
        return counted is None, "the scene holds no pixel" if counted is None else "no cloud cover was recorded"
    if counted is None or abs(counted - found) > _ROUNDING:
        held = "no pixel" if counted is None else f"{counted:.2f} % cloud"
        return False, f"mask.tif holds {held}, recorded were {found:.2f} %: the file was changed since"
    others = {
        "scene's own metadata": _number(products.attributes.get(STATED_CLOUD)),
        "classifier": products.statistics.get("classifier_cloud_percentage"),
    }
    for name, other in others.items():
        if other is not None and other >= 0 and abs(other - found) > FAR_APART:
            return False, f"{found:.1f} % cloud in the mask, {other:.1f} % according to the {name}"
    if found >= NEARLY_ALL:
        return False, f"{found:.1f} % cloud: overcast, or read as another instrument than the one that took it"
    return True, f"{found:.1f} % cloud"


def _georeference(products: SceneProducts, source: SceneSource) -> tuple[bool, str]:
    from rasterio import Affine
    from rasterio.crs import CRS

    grid = source.grid
    crs = None if grid.crs is None else CRS.from_user_input(grid.crs)
    place = Affine(*grid.transform)
    problems = []
    for name, raster in _rasters(products):
        if raster.crs != crs:
            problems.append(f"{name} is in {raster.crs}, the scene in {crs}")
            continue
        own = raster.transform
        pixel = max(abs(own.a), abs(own.b), abs(own.d), abs(own.e))
        corners = _corners(own, raster.height, raster.width), _corners(place, grid.height, grid.width)
        near, far = (max(abs(x - u), abs(y - v)) / pixel for (x, y), (u, v) in zip(*corners, strict=True))
        # The corner is the scene's own; the far edge may reach over it by less than a (coarse) pixel.
        if near > _ROUNDING or far >= 1 + _ROUNDING:
            problems.append(f"{name} lies {max(near, far):.2f} of its pixels off the scene")
    return not problems, "; ".join(problems) or f"{'no coordinate reference system' if crs is None else crs}"


def _nodata(products: SceneProducts, source: SceneSource) -> tuple[bool, str]:
    from scipy.ndimage import binary_erosion

    shape = thumbnail_shape(source.grid, _LOOKED_AT)
    bands = tuple(source.bands)[:3]
    with source.open(bands) as reader:
        seen = reader.valid(reader.thumbnail(_LOOKED_AT))
    # Without the edges, where a small picture cannot be exact.
    inside, outside = (binary_erosion(area, iterations=_MARGIN, border_value=1) for area in (seen, ~seen))
    problems = []
    comparable = {name for name, product in declared_rasters().items() if product.shares_nodata}
    for name, raster in _rasters(products):
        if name not in comparable:
            continue
        holds = raster.dataset_mask(out_shape=shape) > 0
        lost, invented = float((inside & ~holds).mean()), float((outside & holds).mean())
        if max(lost, invented) > MOST_UNEXPECTED:
            problems.append(
                f"{name}: {lost:.1%} of the pixels are nodata though observed, {invented:.1%} are not though unobserved"
            )
    return not problems, "; ".join(problems) or f"{1 - float(seen.mean()):.1%} nodata, as in the scene"


def _rasters(products: SceneProducts) -> "Iterator[tuple[str, DatasetReader]]":
    import rasterio

    for name, path in products.paths.items():
        if path.suffix == ".tif":
            with rasterio.open(path) as raster:
                yield name, raster


def _corners(transform: "Affine", height: int, width: int) -> tuple[tuple[float, float], tuple[float, float]]:
    a, b, c, d, e, f = transform[:6]
    return (c, f), (a * width + b * height + c, d * width + e * height + f)


def _counted(mask: Path) -> float | None:
    """Percentage of cloud in the pixels of a mask that are not nodata; None if all are."""
    import rasterio

    counts = np.zeros(256, np.int64)
    with rasterio.open(mask) as raster:
        for _, window in raster.block_windows(1):
            counts += np.bincount(raster.read(1, window=window).ravel(), minlength=256)
    seen = counts.sum() - counts[UNLABELLED]
    return float(100 * counts[[THICK_CLOUD, THIN_CLOUD]].sum() / seen) if seen else None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
