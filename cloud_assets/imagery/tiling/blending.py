"""Seamless blending of overlapping windows, in memory independent of the scene's height."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.imagery.tiling.windows import Tiling

Values = npt.NDArray[np.float32]


class SeamBlender:
    """Weighs windows that arrive in raster order and hands back each pixel as soon as it is final.

    Only what a later window can still change is kept: the part of the last window that its right neighbour overlaps,
    and the rows that the next row of windows overlaps.
    """

    def __init__(self, tiling: Tiling) -> None:
        self._tiling = tiling
        self._right: Values | None = None
        self._below: Values | None = None

    def add(self, position: tuple[int, int], values: npt.NDArray[Any] | None) -> Values | None:
        """Takes the next window.

        Args:
            position: Its place in the grid; every window comes once, in the order of ``tiling.positions()``.
            values: (K, height, width) prediction; None for a window without any valid pixel, which adds nothing.

        Returns:
            (K, h, w) blended values of ``tiling.final(position)``, or None if no window with values has touched them.
        """
        row, column = position
        vertical, horizontal = self._tiling.vertical, self._tiling.horizontal
        weighted = self._weighted(position, values)
        if column == 0:
            self._right = None
        weighted = _add_to_corner(weighted, self._right, vertical.size, horizontal.size)
        left = horizontal.starts[column]
        is_last_column = column == len(horizontal.starts) - 1
        step = horizontal.size if is_last_column else horizontal.starts[column + 1] - left
        self._right = None if weighted is None or is_last_column else weighted[:, :, step:].copy()
        columns = slice(left - horizontal.starts[0], left - horizontal.starts[0] + step)
        above = None if self._below is None or row == 0 else self._below[:, :, columns]
        finished = None if weighted is None else weighted[:, :, :step]
        finished = _add_to_corner(finished, above, vertical.size, step)
        self._keep_below(row, columns, finished)
        if finished is None:
            return None
        final = self._tiling.final(position)
        top = final.row - vertical.starts[row]
        start = final.column - left
        return finished[:, top : top + final.height, start : start + final.width]

    def _weighted(self, position: tuple[int, int], values: npt.NDArray[Any] | None) -> Values | None:
        if values is None:
            return None
        weights = self._tiling.vertical.weights[position[0]], self._tiling.horizontal.weights[position[1]]
        weighted: Values = np.multiply(values, np.outer(*weights), dtype=np.float32)
        return weighted

    def _keep_below(self, row: int, columns: slice, finished: Values | None) -> None:
        """Remembers the rows of these columns that the next row of windows will add to."""
        vertical, horizontal = self._tiling.vertical, self._tiling.horizontal
        if row == len(vertical.starts) - 1:
            return
        step = vertical.starts[row + 1] - vertical.starts[row]
        if self._below is None:
            if finished is None:
                return
            width = horizontal.starts[-1] + horizontal.size - horizontal.starts[0]
            # The tallest overlap of any two rows of windows; starts are rounded, so overlaps differ by a pixel.
            height = vertical.size - int(np.diff(vertical.starts).min())
            self._below = np.zeros((len(finished), height, width), np.float32)
        kept = self._below[:, :, columns]
        kept[:] = 0
        if finished is not None:
            kept[:, : vertical.size - step] = finished[:, step:]


def _add_to_corner(values: Values | None, carried: Values | None, height: int, width: int) -> Values | None:
    """Adds what earlier windows left to the top left corner; (height, width) is the shape without own values."""
    if carried is None:
        return values
    if values is None:
        values = np.zeros((len(carried), height, width), np.float32)
    rows, columns = min(carried.shape[1], height), min(carried.shape[2], width)
    values[:, :rows, :columns] += carried[:, :rows, :columns]
    return values
