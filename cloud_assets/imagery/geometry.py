"""Georeference of a scene: footprint, pixel size."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidData

_METRES_A_DEGREE = 111_320.0


def pixel_metres(grid: Grid) -> float | None:
    """Side of a pixel in metres, the longer one.

    For geographic coordinates the length at the grid's middle latitude.

    Returns:
        None without a coordinate reference system.
    """
    if grid.crs is None:
        return None
    from rasterio.crs import CRS

    crs = CRS.from_user_input(grid.crs)
    a, b, _, d, e, f = grid.transform
    if crs.is_geographic:
        latitude = f + d * grid.width / 2 + e * grid.height / 2
        east = _METRES_A_DEGREE * math.cos(math.radians(latitude))
        return max(math.hypot(a * east, d * _METRES_A_DEGREE), math.hypot(b * east, e * _METRES_A_DEGREE))
    factor = float(crs.linear_units_factor[1])
    return max(math.hypot(a, d), math.hypot(b, e)) * factor


def finest_grid(paths: Sequence[str]) -> Grid:
    """The grid with the smallest pixels among some rasters; those that cannot be read are left to whoever reads them.

    Raises:
        InvalidData: If none of them can be read.
    """
    headers, problems = [], []
    for path in paths:
        try:
            headers.append(read_header(path))
        except InvalidData as error:
            problems.append(error)
    if not headers:
        raise problems[0]
    finest = min(headers, key=lambda header: abs(header.transform[0]))
    return Grid(finest.height, finest.width, finest.crs, finest.transform)


def footprint(grid: Grid) -> tuple[dict[str, Any], tuple[float, float, float, float]] | None:
    """The grid's outline in longitude and latitude.

    Returns:
        GeoJSON geometry, split where it crosses the antimeridian and closed around a pole (RFC 7946, section 3.1.9);
        and (west, south, east, north), where west is greater than east across the antimeridian. None without a
        coordinate reference system.
    """
    if grid.crs is None:
        return None
    import antimeridian
    from rasterio.warp import transform

    a, b, c, d, e, f = grid.transform
    # Points along the edges too: a straight edge of the grid is a curve in longitude and latitude.
    steps = [index / 8 for index in range(8)]
    # Against the clock on a north-up map, as GeoJSON prescribes.
    corners = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
    outline = [
        ((x0 + (x1 - x0) * step) * grid.width, (y0 + (y1 - y0) * step) * grid.height)
        for (x0, y0), (x1, y1) in pairwise(corners)
        for step in steps
    ]
    eastings = [a * column + b * row + c for column, row in outline]
    northings = [d * column + e * row + f for column, row in outline]
    longitudes, latitudes = transform(grid.crs, "EPSG:4326", eastings, northings)
    ring = [[round(x, 6), round(y, 6)] for x, y in zip(longitudes, latitudes, strict=True)]
    outlined = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    geometry: dict[str, Any] = antimeridian.fix_geojson(outlined, great_circle=False)
    west, south, east, north = antimeridian.bbox(geometry)
    return geometry, (west, south, east, north)


def thumbnail_shape(grid: Grid, longest: int) -> tuple[int, int]:
    """Height and width of a picture of the whole grid of which neither is above ``longest`` pixels."""
    factor = min(1.0, longest / max(grid.height, grid.width))
    return max(1, round(grid.height * factor)), max(1, round(grid.width * factor))
