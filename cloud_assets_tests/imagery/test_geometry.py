import pytest

from cloud_assets.datasets.scene import Grid
from cloud_assets.imagery.geometry import footprint


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
