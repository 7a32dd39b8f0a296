"""Reading, predicting, blending and writing a scene at the same time, window by window, in bounded memory.

One thread reads, ``workers`` threads predict, the caller's thread takes the results in order. At most a few batches are
under way at once. An error in any thread ends the whole and is raised to the caller.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.errors import InvalidData
from cloud_assets.imagery.tiling.windows import Tiling, Window

Values = npt.NDArray[np.float32]
Outputs = Mapping[str, npt.NDArray[Any]]
"""What a model says of a batch, by name; the first axis counts windows."""
Infer = Callable[[npt.NDArray[Any], Sequence[tuple[slice, slice]]], Outputs]
"""(N, C, height, width) digital numbers, and which rows and columns of each window lie in the scene -> outputs; called
from several threads at once."""


class WindowReader(Protocol):
    """Anything that windows can be read from."""

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Reads (C, height, width) digital numbers; borders are reflected where the window reaches past the scene."""

    def valid(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which pixels (…, height, width) of (…, C, height, width) digital numbers were observed."""


class ArrayReader:
    """A scene that is in memory: an array (C, H, W) of digital numbers of an instrument."""

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

    position: tuple[int, int]
    """Place in the grid of windows."""
    valid: npt.NDArray[np.bool_]
    """(height, width)."""
    outputs: Outputs | None
    """The model's outputs without the batch axis; None where no pixel is valid, so nothing was predicted."""


def predict_windows(
    reader: WindowReader, tiling: Tiling, infer: Infer, *, batch_size: int = 1, workers: int = 1
) -> Iterator[WindowResult]:
    """Predicts all windows of a scene.

    Args:
        reader: Used from one thread only.
        tiling: The grid of windows.
        infer: The model.
        batch_size: Windows a call of the model; windows without a valid pixel are left out.
        workers: How many calls of the model run at once.

    Yields:
        One result a window, in raster order, whatever the order in which they were finished.
    """
    reading = ThreadPoolExecutor(1, thread_name_prefix="read")
    predicting = ThreadPoolExecutor(workers, thread_name_prefix="predict")
    under_way: deque[Future[list[WindowResult]]] = deque()
    positions = tiling.positions()
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


def _read(
    reader: WindowReader, tiling: Tiling, batch: Sequence[tuple[int, int]]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    windows = [reader.read(tiling.window(position)) for position in batch]
    dn = windows[0][np.newaxis] if len(windows) == 1 else np.stack(windows)
    return dn, reader.valid(dn)


def _predict(
    read: "Future[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]",
    tiling: Tiling,
    batch: Sequence[tuple[int, int]],
    infer: Infer,
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
    valid: npt.NDArray[np.bool_]
    """(height, width)."""
    values: Values | None
    """(K, height, width), of no meaning where not valid; None if no pixel is valid."""


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
    """Weighs windows that arrive in raster order and hands back each pixel as soon as it is final, without seams.

    Only what a later window can still change is kept, so memory does not grow with the scene's height: the part of the
    last window that its right neighbour overlaps, and the rows that the next row of windows overlaps.
    """

    def __init__(self, tiling: Tiling) -> None:
        self._tiling = tiling
        self._right: Values | None = None
        self._below: Values | None = None

    def add(self, position: tuple[int, int], values: npt.NDArray[Any] | None) -> Values | None:
        """Takes the (K, height, width) prediction of the next window in the order of ``tiling.positions()``.

        None is of a window without any valid pixel, which adds nothing. Returns (K, h, w) blended values of
        ``tiling.final(position)``, or None if no window with values has touched them.
        """
        row, column = position
        vertical, horizontal = self._tiling.vertical, self._tiling.horizontal
        weighted: Values | None = None
        if values is not None:
            weights = np.outer(vertical.weights[row], horizontal.weights[column])
            weighted = np.multiply(values, weights, dtype=np.float32)
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
