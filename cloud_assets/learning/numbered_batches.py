"""Numbered batches, equal in any process and after any interruption; their sampler and loaders."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset, Sampler

from cloud_assets.bands import UNLABELLED
from cloud_assets.inference.predictor import reflect_pad

Array = npt.NDArray[Any]
Sample = tuple[Any, ...]  # arrays or numbers of one sample; a batch stacks each of them along a new first axis

REAL, SIMULATED = 0, 1
"""The streams that training samples are drawn from."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NumberedBatches(Dataset[Any]):
    """Training batches by number. A subclass makes a sample from its stream and its position in that stream.

    Positions count up without end; :meth:`place` maps them to an endless row of permutations of the stream's samples,
    so that none is seen much more often than another, however long an epoch is.
    """

    batch_size: int  # samples a batch
    seed: int  # what the randomness depends on, besides the position

    @property
    def simulated_fraction(self) -> float:
        """Share of the stream ``SIMULATED``: exact in the long run."""
        return 0.0

    def sample(self, stream: int, position: int) -> Sample:
        """One sample, which depends on its stream, its position and the seed only."""
        raise NotImplementedError

    def place(self, count: int, position: int, stream: int = REAL) -> int:
        """Which of a stream's ``count`` samples is at a position."""
        return endless_order(count, position, self.seed, stream)

    def __getitem__(self, number: int) -> tuple[npt.NDArray[Any], ...]:
        """The batch of that number, counted over all epochs."""
        first, after = (
            int(np.floor(before * self.batch_size * self.simulated_fraction + 1e-9)) for before in (number, number + 1)
        )
        reals = range(number * self.batch_size - first, (number + 1) * self.batch_size - after)
        samples = [self.sample(SIMULATED, position) for position in range(first, after)]
        return _stacked(samples + [self.sample(REAL, position) for position in reals])


@dataclass(frozen=True, eq=False, kw_only=True)
class OrderedBatches(Dataset[Any]):
    """Validation batches: all samples in their order; the last batch may be smaller."""

    batch_size: int = 1  # samples a batch

    @property
    def count(self) -> int:
        """Number of samples."""
        raise NotImplementedError

    def sample(self, position: int) -> Sample:
        """The sample at a position, 0 … ``count`` - 1."""
        raise NotImplementedError

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __getitem__(self, number: int) -> tuple[npt.NDArray[Any], ...]:
        """Batch number ``number``."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        positions = range(number * self.batch_size, min((number + 1) * self.batch_size, self.count))
        return _stacked([self.sample(position) for position in positions])


def _stacked(samples: Sequence[Sample]) -> tuple[npt.NDArray[Any], ...]:
    return tuple(np.stack(part) for part in zip(*samples, strict=True))


class EpochSampler(Sampler[int]):
    """Numbers the batches of an epoch, going on from epoch to epoch; where ranks share each batch, a rank's parts."""

    def __init__(self, batches: int, rank: int = 0, ranks: int = 1) -> None:
        self._batches, self._rank, self._ranks = batches, rank, ranks
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch (from 0)."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[int]:
        first = self._epoch * self._batches
        return iter(range(first * self._ranks + self._rank, (first + self._batches) * self._ranks, self._ranks))


def loader(batches: Dataset[Any], workers: int, sampler: Iterable[int] | None = None) -> DataLoader[Any]:
    """Loads batches in as many processes (0: in the main one): those that a sampler names, or all in their order."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Forked, a process that has used torch, OpenVINO or GDAL may hang or die.
        multiprocessing_context="spawn" if workers else None,
    )


def endless_order(count: int, position: int, *key: int) -> int:
    """Element number ``position`` of an endless row of random permutations of 0 … count - 1."""
    return int(_permutation(count, position // count, key)[position % count])


@lru_cache(maxsize=8)
def _permutation(count: int, turn: int, key: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.random.default_rng((*key, turn)).permutation(count)


def random_window(rng: np.random.Generator, shape: Sequence[int], side: int | None) -> tuple[slice, slice]:
    """Rows and columns of a random square of ``side`` pixels, at most of what there is; None: everything."""
    sides = [length if side is None else min(side, length) for length in shape]
    starts = [int(rng.integers(length - extent + 1)) for length, extent in zip(shape, sides, strict=True)]
    rows, columns = (slice(start, start + extent) for start, extent in zip(starts, sides, strict=True))
    return rows, columns


def padded(
    image: Array, truth: Array, multiple: int, border: int = 0, fill: int = UNLABELLED, block: Fraction = Fraction(1)
) -> tuple[Array, Array]:
    """Mirrors an image (C, h, w) beyond its edges as :func:`reflect_pad` does; truth (H, W, …) gets constant pixels.

    The image's pixels have sides of ``block`` pixels of the truth, and ``multiple`` and ``border`` count them.
    """
    mirrored, first = reflect_pad(image[None], multiple, border)[0], round(border * block)
    sides = zip(truth.shape[:2], mirrored.shape[1:], strict=True)
    margins = [(first, int(whole * block) - first - side) for side, whole in sides]
    return mirrored, np.pad(truth, [*margins, *[(0, 0)] * (truth.ndim - 2)], constant_values=fill)
