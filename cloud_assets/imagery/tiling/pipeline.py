"""Reading, predicting and writing a scene at the same time, window by window, in bounded memory.

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

from cloud_assets.imagery.tiling.windows import Tiling, Window

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
