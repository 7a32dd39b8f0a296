"""Sums over square cells of a scene, gathered window by window."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.imagery.tiling.windows import Window


def add_by_cell(total: npt.NDArray[Any], values: npt.NDArray[Any], window: Window, cell: int) -> None:
    """Adds the values of a window's pixels to the cells that they lie in.

    Args:
        total: (…, rows, columns), one number a cell; changed in place.
        values: (…, h, w).
        window: Where they lie; inside the scene.
        cell: Side of a cell, pixels, counted from the scene's upper left corner.
    """
    rows = np.arange(window.row, window.row + window.height) // cell
    columns = np.arange(window.column, window.column + window.width) // cell
    first_rows, first_columns = (np.flatnonzero(np.r_[True, np.diff(index) > 0]) for index in (rows, columns))
    sums = np.add.reduceat(np.add.reduceat(values, first_rows, axis=-2), first_columns, axis=-1)
    total[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += sums.astype(total.dtype)
