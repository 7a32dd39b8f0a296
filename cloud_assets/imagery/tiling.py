"""Covering a scene of any size with overlapping windows, predicting them, and blending, in bounded memory.

The windows form a regular grid, so their blending weights are the product of one weight vector per row and one per
column of the grid, and those vectors can be made to add up to 1 at every pixel before anything is predicted.

One thread reads, ``workers`` threads predict, the caller's thread takes the results in order and writes. At most a few
batches are under way at once. An error in any thread ends the whole and is raised to the caller.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.errors import InvalidData, InvalidRecipe


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; it may reach past the scene, where borders are reflected."""

    row: int  # first row, counted from the scene's first row; may be negative
    column: int  # first column, likewise
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

    length: int  # pixels of the scene along this axis
    size: int  # pixels of each window along this axis
    starts: tuple[int, ...]  # first pixel of each window, ascending; the first one is not positive
    taper_length: int  # pixels over which a window's weight rises from 0 to 1 at each of its ends

    @classmethod
    def plan(
        cls, length: int, size: int, overlap: int, *, border: int = 0, multiple: int, grid: float = 0, fixed: bool
    ) -> "Axis":
        """Places windows so that they cost a network as little as possible, and spreads them evenly.

        Windows measure ``size`` pixels at most, a multiple of ``multiple``, unless ``fixed`` for networks that take no
        other size, and cost as much as the next multiple of ``grid`` (0: ``multiple``). They overlap by ``overlap``
        pixels at least. Half an overlap of reflected border is added at each end, or ``border`` where a model needs
        more, so that no pixel lies at the very edge of all windows that see it.
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
        span, grid = length + 2 * margin, grid or multiple
        # Never above the caller's size, which is what the memory budget was made for.
        steps = range(math.ceil(max(size / 2, 2 * margin, overlap + multiple) / grid), math.ceil(size / grid))
        whole = math.ceil(span / multiple) * multiple
        filling = [math.floor(step * grid / multiple + 1e-6) * multiple for step in steps]
        sizes = [size] if fixed else [size, whole] if whole <= size else [size, *filling]
        counts = [max(1, math.ceil((span - overlap) / (one - overlap))) for one in sizes]
        costs = [count * math.ceil(one / grid - 1e-6) for count, one in zip(counts, sizes, strict=True)]
        _, count, size = min(zip(costs, counts, sizes, strict=True))
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
        total = np.zeros(self.starts[-1] + self.size - self.starts[0])
        for start in self.starts:
            total[start - self.starts[0] :][: self.size] += bump
        return tuple((bump / total[start - self.starts[0] :][: self.size]).astype(np.float32) for start in self.starts)


@dataclass(frozen=True)
class Tiling:
    """The grid of windows that covers a scene."""

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
        grid: float = 0,
        fixed: bool = False,
    ) -> "Tiling":
        """Plans both axes; see :meth:`Axis.plan`."""
        how: dict[str, Any] = {"border": border, "multiple": multiple, "grid": grid, "fixed": fixed}
        return cls(Axis.plan(height, size, overlap, **how), Axis.plan(width, size, overlap, **how))

    def __len__(self) -> int:
        return len(self.vertical.starts) * len(self.horizontal.starts)

    def positions(self, strip: float = math.inf) -> Iterator[tuple[int, int]]:
        """(row, column) of each window in the grid, row by row of one strip of ``strip`` pixels after the other."""
        rows, starts = range(len(self.vertical.starts)), np.array(self.horizontal.starts)
        strips = np.floor((starts - starts[0]) / max(strip - self.horizontal.size, 1))
        for one in np.unique(strips):
            yield from product(rows, np.flatnonzero(strips == one).tolist())

    def window(self, position: tuple[int, int]) -> Window:
        """The window at a position of the grid."""
        rows, columns = self.vertical, self.horizontal
        return Window(rows.starts[position[0]], columns.starts[position[1]], rows.size, columns.size)

    def inside(self, position: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the window at a position that lie in the scene, counted from the window's first."""
        window = self.window(position)
        return window.inside(self.vertical.length, self.horizontal.length).within(window)

    def final(self, position: tuple[int, int]) -> Window:
        """The part of the scene that is final once this window, and all above it and to its left, are in."""
        rows, columns = self.vertical.final(position[0]), self.horizontal.final(position[1])
        return Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)


Values = npt.NDArray[np.float32]
Outputs = Mapping[str, npt.NDArray[Any]]  # what a model says of a batch, by name; the first axis counts windows
Infer = Callable[[npt.NDArray[Any], Sequence[tuple[slice, slice]]], Outputs]
"""(N, C, height, width) digital numbers, rows and columns inside the scene -> outputs; from several threads."""


class WindowReader(Protocol):
    """Anything that windows can be read from."""

    strip: float  # pixels side by side up to which a row of windows is best read together with the next one

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Reads (C, height, width) digital numbers; borders are reflected where the window reaches past the scene."""

    def valid(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which pixels (…, height, width) of (…, C, height, width) digital numbers were observed."""


class ArrayReader:
    """A scene that is in memory: an array (C, H, W) of digital numbers of an instrument."""

    strip = math.inf

    def __init__(self, dn: npt.NDArray[Any], profile: Instrument) -> None:
        if dn.ndim != 3 or dn.size == 0:
            raise InvalidData(f"A scene is an array (bands, height, width) of digital numbers; got {dn.shape}.")
        self._dn = dn
        self._profile = profile

    def read(self, window: Window) -> npt.NDArray[Any]:
        """As :meth:`WindowReader.read`."""
        inside = window.inside(*self._dn.shape[1:])
        return window.mirrored(self._dn[:, *inside.slices], inside)

    def valid(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """As :meth:`WindowReader.valid`."""
        return self._profile.valid(dn)


@dataclass(frozen=True)
class WindowResult:
    """One window after prediction."""

    position: tuple[int, int]  # place in the grid of windows
    valid: npt.NDArray[np.bool_]  # (height, width)
    outputs: Outputs | None
    """The model's outputs without the batch axis; None where no pixel is valid, so nothing was predicted."""


def predict_windows(
    reader: WindowReader, tiling: Tiling, infer: Infer, *, batch_size: int = 1, workers: int = 1
) -> Iterator[WindowResult]:
    """Predicts all windows of a scene and yields one result each, in the reader's order whatever is finished first.

    The reader is used from one thread only. ``batch_size`` windows go into a call of the model, those without a valid
    pixel left out; ``workers`` calls run at once.
    """
    reading = ThreadPoolExecutor(1, thread_name_prefix="read")
    predicting = ThreadPoolExecutor(workers, thread_name_prefix="predict")
    under_way: deque[Future[list[WindowResult]]] = deque()
    positions = tiling.positions(reader.strip)
    try:
        while batch := list(islice(positions, batch_size)):
            read = reading.submit(_read, reader, tiling, batch)
            under_way.append(predicting.submit(_predict, read, tiling, batch, infer))
            # One batch more than there are workers: the next one is read while all of them are busy.
            if len(under_way) > workers + 1:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    finally:
        # Readers first: a worker that waits for a cancelled reading ends at once.
        reading.shutdown(wait=True, cancel_futures=True)
        predicting.shutdown(wait=True, cancel_futures=True)


_Read = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]


def _read(reader: WindowReader, tiling: Tiling, batch: Sequence[tuple[int, int]]) -> _Read:
    windows = [reader.read(tiling.window(position)) for position in batch]
    dn = windows[0][np.newaxis] if len(windows) == 1 else np.stack(windows)
    return dn, reader.valid(dn)


def _predict(
    read: "Future[_Read]", tiling: Tiling, batch: Sequence[tuple[int, int]], infer: Infer
) -> list[WindowResult]:
    dn, valid = read.result()
    seen = np.flatnonzero(valid.any(axis=(1, 2)))
    inside = [tiling.inside(batch[int(index)]) for index in seen]
    outputs = infer(dn if len(seen) == len(batch) else dn[seen], inside) if len(seen) else {}
    places = {int(index): place for place, index in enumerate(seen)}
    return [
        WindowResult(
            position,
            valid[index],
            {name: values[places[index]] for name, values in outputs.items()} if index in places else None,
        )
        for index, position in enumerate(batch)
    ]


@dataclass(frozen=True)
class Block:
    """A part of a scene that is finished."""

    window: Window
    valid: npt.NDArray[np.bool_]  # (height, width)
    values: Values | None  # (K, height, width), of no meaning where not valid; None if no pixel is valid


def predict_densely(
    reader: WindowReader,
    tiling: Tiling,
    infer: Infer,
    output: str,
    *,
    batch_size: int = 1,
    workers: int = 1,
    each: Callable[[WindowResult], None] | None = None,
) -> Iterator[Block]:
    """Predicts a scene as :func:`predict_windows` does, and blends the output of a name, (N, K, height, width).

    ``each`` is called with every window's outputs, for those that belong to whole windows.

    Yields:
        Parts of the scene that together cover it exactly once.
    """
    blender = SeamBlender(tiling)
    for result in predict_windows(reader, tiling, infer, batch_size=batch_size, workers=workers):
        if each is not None:
            each(result)
        blended = blender.add(result.position, result.outputs[output] if result.outputs else None)
        window, whole = tiling.final(result.position), tiling.window(result.position)
        if 0 in (window.height, window.width):
            continue
        yield Block(window, result.valid[window.within(whole)], blended)


class SeamBlender:
    """Weighs windows that arrive after those above and to the left, and hands back each pixel as soon as it is final.

    Only what a later window can still change is kept: the columns that right neighbours overlap, of a row's last
    window, and the rows that the next row of windows overlaps.
    """

    def __init__(self, tiling: Tiling) -> None:
        self._tiling = tiling
        self._right: dict[int, Values] = {}  # by row
        self._below: Values | None = None

    def add(self, position: tuple[int, int], values: npt.NDArray[Any] | None) -> Values | None:
        """Takes over the (K, height, width) prediction of the next window in an order of ``tiling.positions``.

        None is of a window without any valid pixel, which adds nothing. Returns (K, h, w) blended values of
        ``tiling.final(position)``, or None if no window with values has touched them.
        """
        row, column = position
        vertical, horizontal = self._tiling.vertical, self._tiling.horizontal
        weighted: Values | None = None
        if values is not None:
            down, across = vertical.weights[row], horizontal.weights[column]
            weighted = np.require(values, np.float32, "W")
            for ends in _not_one(down):
                weighted[:, ends] *= down[ends, np.newaxis]
            for ends in _not_one(across):
                weighted[:, :, ends] *= across[ends]
        weighted = _add_to_corner(weighted, self._right.pop(row, None), vertical.size, horizontal.size)
        left = horizontal.starts[column]
        is_last_column = column == len(horizontal.starts) - 1
        step = horizontal.size if is_last_column else horizontal.starts[column + 1] - left
        if weighted is not None and not is_last_column:
            self._right[row] = weighted[:, :, step:].copy()
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


def _not_one(weights: Values) -> tuple[slice, slice]:
    """The two ends of a window: between them, which is most of it, weights are 1."""
    ones = np.flatnonzero(weights == 1)
    return (slice(0, ones[0]), slice(ones[-1] + 1, None)) if ones.size else (slice(None), slice(0, 0))


def _add_to_corner(values: Values | None, carried: Values | None, height: int, width: int) -> Values | None:
    """Adds what earlier windows left to the top left corner; (height, width) is the shape without own values."""
    if carried is None:
        return values
    if values is None:
        values = np.zeros((len(carried), height, width), np.float32)
    rows, columns = min(carried.shape[1], height), min(carried.shape[2], width)
    values[:, :rows, :columns] += carried[:, :rows, :columns]
    return values
