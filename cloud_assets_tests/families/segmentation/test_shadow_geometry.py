"""Shadows on known scenes: a cloud, the sun, and where its shadow can lie."""

import math

import numpy as np
import pytest

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, UNLABELLED
from cloud_assets.datasets.scene import Grid
from cloud_assets.families.segmentation import shadow_geometry
from cloud_assets.families.segmentation.shadow_geometry import HIGHEST_CLOUD, ShadowGeometry
from cloud_assets.imagery.geometry import SunPosition, pixels_a_metre
from cloud_assets.imagery.tiling import Window

SIDE, METRES = 500, 100.0
NORTH_UP = Grid(SIDE, SIDE, "EPSG:32633", (METRES, 0, 500_000, 0, -METRES, 4_600_000))
SOUTHERN = Grid(SIDE, SIDE, "EPSG:32733", (METRES, 0, 500_000, 0, -METRES, 6_600_000))
TURNED = Grid(SIDE, SIDE, "EPSG:32633", (METRES * 0.6, METRES * 0.8, 500_000, METRES * 0.8, -METRES * 0.6, 4_600_000))
ANTARCTIC = Grid(SIDE, SIDE, "EPSG:3031", (METRES, 0, 1_000_000, 0, -METRES, 100_000))
DEGREES = Grid(SIDE, SIDE, "EPSG:4326", (0.001, 0, 15, 0, -0.001, 46))
GRIDS = {"north-up": NORTH_UP, "southern": SOUTHERN, "turned": TURNED, "antarctic": ANTARCTIC, "degrees": DEGREES}
WHOLE = Window(0, 0, SIDE, SIDE)
MIDDLE = SIDE // 2


def block(mask: np.ndarray, row: float, column: float, code: int, half: int = 4) -> None:
    row, column = round(row), round(column)
    mask[row - half : row + half + 1, column - half : column + half + 1] = code


def scene(grid: Grid, sun: SunPosition, height: float) -> np.ndarray:
    """A cloud of a height over the ground in the middle of a scene, and the shadow that it casts."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    away = height / math.tan(math.radians(sun.elevation))
    down, right = pixels_a_metre(grid, sun.azimuth + 180)
    block(mask, MIDDLE + down * away, MIDDLE + right * away, CLOUD_SHADOW)
    block(mask, MIDDLE, MIDDLE, THICK_CLOUD)
    return mask


def checked(grid: Grid, sun: SunPosition, mask: np.ndarray) -> np.ndarray:
    geometry = ShadowGeometry(grid, sun)
    geometry.add(WHOLE, mask)
    after = geometry.cleared(WHOLE, mask)
    assert geometry.doubted_pixels == (mask != after).sum()
    return after


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("azimuth", [20.0, 140.0, 215.0, 330.0])
@pytest.mark.parametrize("height", [300.0, 2_500.0, 11_000.0])
def test_the_shadow_of_a_cloud_stays(grid, azimuth, height):
    sun = SunPosition(azimuth, 48.0)
    mask = scene(grid, sun, height)
    np.testing.assert_array_equal(checked(grid, sun, mask), mask)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("azimuth", [20.0, 140.0, 215.0, 330.0])
def test_a_dark_spot_that_no_cloud_can_darken_becomes_clear(grid, azimuth):
    sun = SunPosition(azimuth, 48.0)
    reach = HIGHEST_CLOUD / math.tan(math.radians(sun.elevation))
    for turn, distance in ((0, 0.4), (90, 0.5), (-90, 0.5), (180, 1.5)):  # before, beside, and too far behind the cloud
        mask = np.zeros((SIDE, SIDE), np.uint8)
        block(mask, MIDDLE, MIDDLE, THICK_CLOUD)
        down, right = pixels_a_metre(grid, sun.azimuth + turn)
        block(mask, MIDDLE + down * distance * reach, MIDDLE + right * distance * reach, CLOUD_SHADOW)
        after = checked(grid, sun, mask)
        assert (after == THICK_CLOUD).sum() == (mask == THICK_CLOUD).sum()
        assert not (after == CLOUD_SHADOW).any(), (turn, distance)


def test_a_cloud_that_was_not_seen_may_cast_a_shadow():
    sun = SunPosition(180.0, 45.0)  # in the south, which is down
    mask = np.zeros((SIDE, SIDE), np.uint8)
    block(mask, SIDE - 60, MIDDLE, CLOUD_SHADOW)  # 6 km from the lower edge
    np.testing.assert_array_equal(checked(NORTH_UP, sun, mask), mask)
    mask[:, :] = CLEAR
    block(mask, MIDDLE, MIDDLE, CLOUD_SHADOW)  # 25 km from it: the highest cloud is seen at 12 km
    assert not (checked(NORTH_UP, sun, mask) == CLOUD_SHADOW).any()
    mask[MIDDLE + 60 : MIDDLE + 70] = UNLABELLED
    np.testing.assert_array_equal(checked(NORTH_UP, sun, mask), mask)


def test_large_scenes_are_checked_on_cells_and_part_by_part(monkeypatch):
    sun = SunPosition(140.0, 48.0)
    mask = scene(NORTH_UP, sun, 3_000.0)
    block(mask, MIDDLE - 100, MIDDLE + 150, CLOUD_SHADOW)
    fine = checked(NORTH_UP, sun, mask)
    monkeypatch.setattr(shadow_geometry, "_MOST_CELLS", 120)
    geometry = ShadowGeometry(NORTH_UP, sun)
    parts = [
        Window(row, column, 130, 170).inside(SIDE, SIDE) for row in range(0, SIDE, 130) for column in (0, 170, 340)
    ]
    for part in parts:
        geometry.add(part, mask[part.slices])
    coarse = np.empty_like(mask)
    for part in parts:
        coarse[part.slices] = geometry.cleared(part, mask[part.slices])
    assert (mask != fine).sum() == 81
    np.testing.assert_array_equal(coarse, fine)
