"""Covering a scene of any size with overlapping windows of one size.

The windows form a regular grid, so their blending weights are the product of one weight vector per row and one per
column of the grid, and those vectors can be made to add up to 1 at every pixel before anything is predicted.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidRecipe


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; it may reach past the scene, where borders are reflected."""

    row: int
    """First row, counted from the scene's first row; may be negative."""
    column: int
    """First column, likewise."""
    height: int
    width: int

    def inside(self, height: int, width: int) -> "Window":
        """The part of the window that lies in a scene of this size."""
        top, left = max(self.row, 0), max(self.column, 0)
        bottom, right = min(self.row + self.height, height), min(self.column + self.width, width)
        return Window(top, left, bottom - top, right - left)

    def within(self, other: "Window") -> tuple[slice, slice]:
        """Rows and columns of this window, counted from the first of a window around it."""
        top, left = self.row - other.row, self.column - other.column
        return slice(top, top + self.height), slice(left, left + self.width)

    def mirrored(self, values: npt.NDArray[Any], inside: "Window") -> npt.NDArray[Any]:
        """(C, height, width) of (C, h, w) pixels of the part inside: the scene is reflected at its border."""
        rows = inside.row - self.row, self.row + self.height - inside.row - inside.height
        columns = inside.column - self.column, self.column + self.width - inside.column - inside.width
        return np.pad(values, ((0, 0), rows, columns), mode="reflect") if any(rows + columns) else values

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as indices into an array of the scene; for windows inside it."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)

    def __str__(self) -> str:
        last_row, last_column = self.row + self.height - 1, self.column + self.width - 1
        return f"rows {self.row}-{last_row}, columns {self.column}-{last_column}"


@dataclass(frozen=True)
class Axis:
    """The windows along one axis of a scene."""

    length: int
    """Pixels of the scene along this axis."""
    size: int
    """Pixels of each window along this axis."""
    starts: tuple[int, ...]
    """First pixel of each window, ascending; the first one is not positive."""
    taper_length: int
    """Pixels over which a window's weight rises from 0 to 1 at each of its ends."""

    @classmethod
    def plan(cls, length: int, size: int, overlap: int, *, border: int = 0, multiple: int, fixed: bool) -> "Axis":
        """Places as few windows as possible and spreads them evenly.

        Half an overlap of reflected border is added at each end, or more where a model needs more, so that no pixel of
        the scene lies at the very edge of all windows that see it.

        Args:
            length: Pixels of the scene.
            size: Largest size of a window, pixels.
            overlap: Smallest overlap of two windows, pixels.
            border: Smallest reflected border at each end, pixels.
            multiple: Window sizes are multiples of this number of pixels.
            fixed: Keep ``size`` even where smaller windows would do, for networks that take no other.

        Raises:
            InvalidRecipe: If the numbers do not fit together.
        """
        if length < 1 or size < 1 or not 0 <= overlap < size:
            raise InvalidRecipe(
                f"{length} pixels cannot be covered by windows of {size} pixels that overlap by {overlap}: the window "
                "must be larger than the overlap, and the scene must not be empty."
            )
        margin = max(overlap // 2, border)
        if size <= margin:
            raise InvalidRecipe(
                f"windows of {size} pixels are too small for the border of {margin} pixels that the model needs around "
                f"a scene; choose windows of {4 * margin} pixels or more."
            )
        span = length + 2 * margin
        count = max(1, math.ceil((span - overlap) / (size - overlap)))
        if not fixed:
            needed = math.ceil((span + (count - 1) * overlap) / count)
            # Never above the caller's size, which is what the memory budget was made for.
            size = min(size, math.ceil(needed / multiple) * multiple)
            count = max(1, math.ceil((span - overlap) / (size - overlap)))
        gap = (span - size) / (count - 1) if count > 1 else 0.0
        starts = tuple(round(index * gap) - margin for index in range(count))
        return cls(length, size, starts, overlap)

    def final(self, index: int) -> slice:
        """Pixels of the scene that no window after this one can change, and every one before it already has."""
        first = 0 if index == 0 else self.starts[index]
        last = self.length if index == len(self.starts) - 1 else self.starts[index + 1]
        return slice(min(max(first, 0), self.length), min(max(last, 0), self.length))

    @cached_property
    def weights(self) -> tuple[npt.NDArray[np.float32], ...]:
        """One weight vector (size,) a window; over all windows they add up to 1 at every pixel."""
        from_edge = np.minimum(np.arange(self.size), np.arange(self.size)[::-1]) + 0.5
        bump = np.sin(np.minimum(from_edge / max(self.taper_length, 1), 1.0) * (np.pi / 2)) ** 2
        end = self.starts[-1] + self.size
        total = np.zeros(end - self.starts[0])
        for start in self.starts:
            total[start - self.starts[0] :][: self.size] += bump
        return tuple((bump / total[start - self.starts[0] :][: self.size]).astype(np.float32) for start in self.starts)


@dataclass(frozen=True)
class Tiling:
    """The grid of windows that covers a scene, in raster order."""

    vertical: Axis
    horizontal: Axis

    @classmethod
    def plan(
        cls,
        height: int,
        width: int,
        size: int,
        overlap: int,
        *,
        border: int = 0,
        multiple: int = 32,
        fixed: bool = False,
    ) -> "Tiling":
        """Plans both axes; see :meth:`Axis.plan`."""
        return cls(
            Axis.plan(height, size, overlap, border=border, multiple=multiple, fixed=fixed),
            Axis.plan(width, size, overlap, border=border, multiple=multiple, fixed=fixed),
        )

    def __len__(self) -> int:
        return len(self.vertical.starts) * len(self.horizontal.starts)

    def positions(self) -> Iterator[tuple[int, int]]:
        """(row, column) of each window in the grid, row by row."""
        for row in range(len(self.vertical.starts)):
            for column in range(len(self.horizontal.starts)):
                yield row, column

    def window(self, position: tuple[int, int]) -> Window:
        """The window at a position of the grid."""
        row, column = position
        return Window(
            self.vertical.starts[row], self.horizontal.starts[column], self.vertical.size, self.horizontal.size
        )

    def inside(self, position: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the window at a position that lie in the scene, counted from the window's first."""
        window = self.window(position)
        return window.inside(self.vertical.length, self.horizontal.length).within(window)

    def final(self, position: tuple[int, int]) -> Window:
        """The part of the scene that is final once this window, and all before it in raster order, are in."""
        rows, columns = self.vertical.final(position[0]), self.horizontal.final(position[1])
        return Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)

    @property
    def redundancy(self) -> float:
        """Pixels that go through the network for each pixel of the scene, at least 1."""
        predicted = len(self) * self.vertical.size * self.horizontal.size
        return predicted / (self.vertical.length * self.horizontal.length)
