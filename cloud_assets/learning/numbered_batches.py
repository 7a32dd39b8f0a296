"""Batches by number: the same in any process and after any interruption; their samplers and loaders."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset, Sampler

from cloud_assets.bands import UNLABELLED
from cloud_assets.inference.mirrored_padding import reflect_pad

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]
"""Images (N, C, H, W) float32 and class indices (N, H, W) uint8, 255 unlabelled."""


class EpochSampler(Sampler[int]):
    """Numbers the batches of an epoch, going on from epoch to epoch.

    Args:
        batches: Batches an epoch.
    """

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch (from 0)."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[int]:
        first = self._epoch * self._batches
        return iter(range(first, first + self._batches))


def training_loader(batches: Dataset[Any], batches_an_epoch: int, workers: int) -> DataLoader[Any]:
    """A loader of numbered training batches.

    Args:
        batches: Batches by number.
        batches_an_epoch: How many make an epoch.
        workers: Loading processes; 0 loads in the main one.
    """
    return _loader(batches, workers, EpochSampler(batches_an_epoch))


def validation_loader(batches: Dataset[Any], workers: int) -> DataLoader[Any]:
    """A loader of validation batches in their order; ``workers`` as above."""
    return _loader(batches, workers, None)


def _loader(batches: Dataset[Any], workers: int, sampler: "EpochSampler | None") -> DataLoader[Any]:
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
    """Element number ``position`` of an endless row of random permutations of 0 … count - 1.

    Args:
        count: How many elements there are.
        position: Which element of the row.
        *key: What the permutations depend on.
    """
    return int(_permutation(count, position // count, key)[position % count])


@lru_cache(maxsize=8)
def _permutation(count: int, turn: int, key: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.random.default_rng((*key, turn)).permutation(count)


def padded(images: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8], multiple: int, border: int = 0) -> Batch:
    """Mirrors images beyond their edges as :func:`reflect_pad` does; the added pixels are unlabelled.

    Args:
        images: (N, C, H, W).
        truth: (N, H, W).
        multiple: Height and width become multiples of this.
        border: Pixels to add on each side at least.
    """
    margins = [(border, border + -(side + 2 * border) % multiple) for side in truth.shape[1:]]
    return reflect_pad(images, multiple, border), np.pad(truth, ((0, 0), *margins), constant_values=UNLABELLED)
