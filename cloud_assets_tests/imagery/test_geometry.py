from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from cloud_assets.datasets.scene import Grid
from cloud_assets.imagery.geometry import SunPosition, footprint, grow, middle, pixels_a_metre


def grid(crs, x, y, size=109_800.0):
    return Grid(10, 10, crs, (size / 10, 0.0, x, 0.0, -size / 10, y))


def test_an_ordinary_tile_is_one_polygon():
    geometry, (west, south, east, north) = footprint(grid("EPSG:32632", 600_000, 5_100_000))
    assert geometry["type"] == "Polygon"
    assert (west, south, east, north) == pytest.approx((10.28, 45.04, 11.72, 46.05), abs=0.05)


@pytest.mark.parametrize(("crs", "x"), [("EPSG:32701", 99_960.0), ("EPSG:32760", 799_980.0)])
def test_a_tile_at_the_antimeridian_is_split(crs, x):
    geometry, (west, south, east, north) = footprint(grid(crs, x, 8_200_000))
    assert geometry["type"] == "MultiPolygon"
    longitudes = [[x for x, _ in part[0]] for part in geometry["coordinates"]]
    assert all(max(part) - min(part) < 2 for part in longitudes)
    assert west > 178
    assert east < -178
    assert (south, north) == pytest.approx((-17.3, -16.2), abs=0.2)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_a_grid_over_a_pole_holds_it(crs, pole):
    geometry, (west, south, east, north) = footprint(grid(crs, -500_000, 500_000, 1_000_000))
    assert (west, east) == (-180, 180)
    assert (north if pole > 0 else south) == pole
    assert geometry["type"] == "Polygon"


@pytest.mark.parametrize(
    ("time", "where", "azimuth", "elevation"),
    [  # as the metadata files of these Landsat scenes state it: LC08_L1TP_016037, LC08_L2SP_001062 (south)
        (datetime(2017, 8, 13, 15, 54, 15, tzinfo=UTC), (-80.074, 33.174), 126.81463739, 62.17310472),
        (datetime(2020, 10, 31, 14, 31, 47), (-65.182, -2.895), 118.08241478, 64.45083205),
    ],
)
def test_the_sun_stands_where_metadata_say(time, where, azimuth, elevation):
    sun = SunPosition.at(time, *where)
    assert (sun.azimuth, sun.elevation) == pytest.approx((azimuth, elevation), abs=0.03)


@pytest.mark.parametrize(
    ("crs", "transform", "north", "east"),
    [
        ("EPSG:32633", (10, 0, 500_000, 0, -10, 4_600_000), (-0.1, 0), (0, 0.1)),
        ("EPSG:32733", (10, 0, 500_000, 0, -10, 6_600_000), (-0.1, 0), (0, 0.1)),
        ("EPSG:32633", (0, 10, 500_000, 10, 0, 4_600_000), (0, 0.1), (0.1, 0)),  # columns run north, rows east
        ("EPSG:3031", (10, 0, 1_000_000, 0, -10, 0), (0, 0.1), (0.1, 0)),  # on 90 degrees east, away from the pole
    ],
)
def test_directions_on_the_ground_are_found_on_any_grid(crs, transform, north, east):
    place = Grid(100, 100, crs, transform)
    assert pixels_a_metre(place, 0) == pytest.approx(north, abs=0.003)
    assert pixels_a_metre(place, 90) == pytest.approx(east, abs=0.003)


def test_the_middle_of_a_grid():
    assert middle(grid("EPSG:4326", 20.0, 10.0, size=2.0)) == pytest.approx((21.0, 9.0))


@pytest.mark.parametrize("radius", [0.0, 0.9, 1.0, 1.5, 4.5, 25.0, 25.5, 40.0])
def test_spots_grow_by_a_disc(radius):
    spots = np.zeros((90, 120), bool)
    spots[[0, 30, 30, 89], [0, 60, 64, 119]] = True  # two corners, and two that are near each other
    before = spots.copy()
    expected = distance_transform_edt(~spots) <= radius
    assert np.array_equal(grow(spots, radius), expected)
    assert np.array_equal(spots, before), "what was given stays as it is"
    assert not grow(np.zeros((8, 8), bool), radius).any()
