"""Cloud shadows held against the sun: a shadow that no cloud of the scene can cast is doubted.

The distance from a shadow to its cloud follows from the height of the cloud and the elevation of the sun (Fmask: Zhu &
Woodcock, 2012, https://doi.org/10.1016/j.rse.2011.10.028, which looks between 200 m and 12 km). Dark water, burnt
ground and slopes that face away from the sun are what networks take for shadows.
"""

import math
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.scene import Grid
from cloud_assets.imagery.geometry import SunPosition, add_by_cell, distance_within, pixels_a_metre
from cloud_assets.imagery.tiling import Window

LOWEST_CLOUD, HIGHEST_CLOUD = 200.0, 12_000.0  # over the ground, metres
_SIDEWAYS = 0.2
"""By this share of its height a cloud is seen beside its place at a swath's edge: Sentinel-2 looks 12 degrees aside."""
_OUTLINE_METRES = 100.0  # by which outlines of clouds and shadows may be wrong
_MOST_CELLS = 2048  # along each side of a scene: memory does not grow with it


class ShadowGeometry:
    """The clouds of a scene on a coarse grid, and on which of its cells their shadows can lie.

    A cloud may also lie where nothing was observed: beside the scene, or in its nodata. Only a shadow whose whole way
    towards the sun was observed, up to the highest cloud, is doubted.
    """

    def __init__(self, grid: Grid, sun: SunPosition) -> None:
        self._cell = math.ceil(max(grid.height, grid.width) / _MOST_CELLS)
        self._towards_sun = np.array(pixels_a_metre(grid, sun.azimuth)) / self._cell
        across = np.array(pixels_a_metre(grid, sun.azimuth + 90)) / self._cell
        self._cells_a_metre = max(np.hypot(*self._towards_sun), np.hypot(*across))
        self._away = 1 / math.tan(math.radians(sun.elevation))  # metres on the ground for each metre of height
        self.doubted_pixels = 0  # shadow that was called clear so far
        shape = math.ceil(grid.height / self._cell), math.ceil(grid.width / self._cell)
        self._clouds, self._observed = (np.zeros(shape, bool) for _ in range(2))

    def add(self, window: Window, mask: npt.NDArray[np.uint8]) -> None:
        """Notes the clouds of a part of the scene: (height, width) cloud codes."""
        add_by_cell(self._clouds, (mask == THICK_CLOUD) | (mask == THIN_CLOUD), window, self._cell)
        add_by_cell(self._observed, mask != UNLABELLED, window, self._cell)

    def cleared(self, window: Window, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The mask (height, width) of a part of the scene with doubted shadows clear, once all parts are noted."""
        rows, columns = (np.arange(part.start, part.stop) // self._cell for part in window.slices)
        is_doubted = (mask == CLOUD_SHADOW) & self._doubted[np.ix_(rows, columns)]
        self.doubted_pixels += int(np.count_nonzero(is_doubted))
        return np.where(is_doubted, np.uint8(CLEAR), mask)

    @cached_property
    def _doubted(self) -> npt.NDArray[np.bool_]:
        """(rows, columns) cells on which no cloud can cast a shadow."""
        may_be_cloud = np.pad(self._clouds | ~self._observed, 1, constant_values=True)
        distance = distance_within(may_be_cloud, self._radius(HIGHEST_CLOUD))[1:-1, 1:-1]
        (rows, columns), height = distance.shape, LOWEST_CLOUD
        doubted = np.ones((rows, columns), bool)
        while height <= HIGHEST_CLOUD and doubted.any():
            down, right = np.rint(self._towards_sun * height * self._away).astype(int)
            # Cells whose place towards the sun lies in the grid; of the others it was not observed.
            here = slice(max(-down, 0), max(rows - down, 0)), slice(max(-right, 0), max(columns - right, 0))
            there = slice(max(down, 0), max(rows + down, 0)), slice(max(right, 0), max(columns + right, 0))
            is_far = np.zeros_like(doubted)
            is_far[here] = distance[there] > self._radius(height)
            doubted &= is_far
            height += self._radius(height) / (self._cells_a_metre * self._away)
        return doubted

    def _radius(self, height: float) -> float:
        """Cells by which a cloud of a height in metres may lie beside the place where it is looked for."""
        return float(1 + (_OUTLINE_METRES + _SIDEWAYS * height) * self._cells_a_metre)
