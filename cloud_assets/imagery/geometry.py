"""Geometry of scenes: grids and footprints, where the sun stands, sums over cells, distances to marked pixels."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.scene import Grid
from cloud_assets.imagery.tiling import Window

METRES_A_DEGREE = 111_320.0
_LARGEST_DISC = 25  # pixels; distances, which take the same time for any radius, are faster for larger ones


def footprint(grid: Grid) -> tuple[dict[str, Any], tuple[float, float, float, float]] | None:
    """The grid's outline in longitude and latitude.

    Returns:
        GeoJSON geometry, split where it crosses the antimeridian and closed around a pole (RFC 7946, section 3.1.9);
        and (west, south, east, north), where west is greater than east across the antimeridian. None without a
        coordinate reference system, and where the grid leaves what its projection maps.
    """
    if grid.crs is None:
        return None
    import antimeridian
    from rasterio._err import CPLE_BaseError
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
    try:
        longitudes, latitudes = transform(grid.crs, "EPSG:4326", eastings, northings)
    except CPLE_BaseError:
        return None
    ring = [[round(x, 6), round(y, 6)] for x, y in zip(longitudes, latitudes, strict=True)]
    outlined = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    geometry: dict[str, Any] = antimeridian.fix_geojson(outlined, great_circle=False)
    west, south, east, north = antimeridian.bbox(geometry)
    return geometry, (west, south, east, north)


@dataclass(frozen=True)
class SunPosition:
    """Where the sun stands, seen from the middle of a scene."""

    azimuth: float  # degrees clockwise from north
    elevation: float  # degrees above the horizon

    @classmethod
    def at(cls, time: datetime, longitude: float, latitude: float) -> "SunPosition":
        """By time (UTC if it does not tell) and place, to some hundredths of a degree (Astronomical Almanac)."""
        days = (
            (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(2000, 1, 1, 12, tzinfo=UTC)
        ).total_seconds() / 86_400
        anomaly = math.radians(357.528 + 0.9856003 * days)
        ecliptic = math.radians(280.460 + 0.9856474 * days + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
        tilt, north = math.radians(23.439), math.radians(latitude)
        turned = math.radians(280.46062 + 360.98564737 * days + longitude)  # local sidereal time
        x, y, z = math.cos(ecliptic), math.cos(tilt) * math.sin(ecliptic), math.sin(tilt) * math.sin(ecliptic)
        outwards, eastwards = x * math.cos(turned) + y * math.sin(turned), y * math.cos(turned) - x * math.sin(turned)
        up = outwards * math.cos(north) + z * math.sin(north)
        azimuth = math.atan2(eastwards, z * math.cos(north) - outwards * math.sin(north))
        return cls(math.degrees(azimuth) % 360, math.degrees(math.asin(up)))


def middle(grid: Grid) -> tuple[float, float]:
    """Longitude and latitude of the middle of a grid with a coordinate reference system."""
    from rasterio.warp import transform

    (a, b, c, d, e, f), column, row = grid.transform, grid.width / 2, grid.height / 2
    (longitude,), (latitude,) = transform(grid.crs, "EPSG:4326", [a * column + b * row + c], [d * column + e * row + f])
    return longitude, latitude


def pixels_a_metre(grid: Grid, azimuth: float) -> tuple[float, float]:
    """Rows down and columns to the right that a metre on the ground makes, in the middle of a grid with a CRS.

    ``azimuth`` is its direction in degrees clockwise from true north, whatever the projection and the grid's rotation.
    """
    from rasterio.warp import transform

    a, b, _, d, e, _ = grid.transform
    longitude, latitude = middle(grid)
    north, east = (100 / METRES_A_DEGREE * turn(math.radians(azimuth)) for turn in (math.cos, math.sin))
    longitudes = [longitude, longitude + east / math.cos(math.radians(latitude))]
    x, y = (end - start for start, end in transform("EPSG:4326", grid.crs, longitudes, [latitude, latitude + north]))
    scale = 100 * (a * e - b * d)
    return (a * y - d * x) / scale, (e * x - b * y) / scale


def thumbnail_shape(grid: Grid, longest: int) -> tuple[int, int]:
    """Height and width of a picture of the whole grid of which neither is above ``longest`` pixels."""
    factor = min(1.0, longest / max(grid.height, grid.width))
    return max(1, round(grid.height * factor)), max(1, round(grid.width * factor))


def add_by_cell(total: npt.NDArray[Any], values: npt.NDArray[Any], window: Window, cell: int) -> None:
    """Adds the values (…, h, w) of a window inside the scene to ``total`` (…, rows, columns), one number a cell.

    A cell measures ``cell`` x ``cell`` pixels, counted from the scene's upper left corner.
    """
    rows = np.arange(window.row, window.row + window.height) // cell
    columns = np.arange(window.column, window.column + window.width) // cell
    first_rows, first_columns = (np.flatnonzero(np.r_[True, np.diff(index) > 0]) for index in (rows, columns))
    sums = np.add.reduceat(np.add.reduceat(values, first_rows, axis=-2), first_columns, axis=-1)
    total[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += sums.astype(total.dtype)


def grow(spots: npt.NDArray[np.bool_], radius: float) -> npt.NDArray[np.bool_]:
    """Enlarges spots (H, W) by a disc of a radius in pixels."""
    if not 1 <= radius <= _LARGEST_DISC:
        return spots if radius < 1 else distance_within(spots, radius) <= radius
    import cv2

    steps = np.arange(-int(radius), int(radius) + 1)
    disc = (steps[:, np.newaxis] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(spots.view(np.uint8), disc).view(np.bool_)


def distance_within(spots: npt.NDArray[np.bool_], reach: float) -> npt.NDArray[np.float32]:
    """(H, W) pixels to the nearest spot, 0 on a spot, infinite where no spot is within ``reach``."""
    import cv2

    if not spots.any():
        return np.full(spots.shape, np.inf, np.float32)
    # Squares of distances are whole numbers; OpenCV's are off by a rounding error.
    distance = cv2.distanceTransform((~spots).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    exact: npt.NDArray[np.float32] = np.sqrt(np.rint(np.square(distance)))
    exact[exact > reach] = np.inf
    return exact
