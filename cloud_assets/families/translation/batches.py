"""Batches of radar and optical patches; batch number n is the same in any process and after any interruption."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from cloud_assets.inference.mirrored_padding import reflect_pad
from cloud_assets.learning.numbered_batches import endless_order
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.store import PatchStore

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
PairBatch = tuple[Floats, Flags, Floats, Flags]
"""Radar (N, C, H, W) and optical (N, K, H, W) pictures, each with its validity (N, 1, H, W)."""

_RADAR, _OPTICAL, _CHANGES = 0, 1, 2


@dataclass(frozen=True)
class PairSource:
    """Some pairs of a store, with the scaling of both sensors."""

    store: PatchStore
    """The store."""
    indices: npt.NDArray[np.int64]
    """Which of its patches."""
    roles: tuple[str, str]
    """Names of the radar and of the optical role."""
    channels: tuple[list[int], list[int]]
    """Which bands of each, in the order of the network."""
    scaling: tuple[Preprocessing, Preprocessing]
    """Of each."""

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, side: int, index: int, window: tuple[slice, slice]) -> tuple[Floats, Flags]:
        """Physical values (C, h, w) and validity (h, w) of a window of one patch.

        Args:
            side: 0 for radar, 1 for optical.
            index: Row of the store.
            window: Rows and columns.
        """
        dn: npt.NDArray[Any] = self.store.array(self.roles[side])[index, :, *window]
        return self.scaling[side].to_physical(dn[self.channels[side]])


class TrainingPairs(Dataset[PairBatch]):
    """Batches by number: cropped, flipped, scaled.

    Args:
        source: The pairs of the training split.
        augmenter: Flips them, both sensors alike where they are paired.
        is_paired: Whether the optical patch is of the same place as the radar patch, or of another.
        batch_size: Pairs a batch.
        crop: Side of random crops, pixels; None for whole patches.
        multiple: Height and width are mirrored up to multiples of this.
        seed: What the randomness depends on, besides the number of the batch.
    """

    def __init__(
        self,
        source: PairSource,
        augmenter: Augmenter,
        *,
        is_paired: bool,
        batch_size: int,
        crop: int | None,
        multiple: int,
        seed: int,
    ) -> None:
        self._source = source
        self._augmenter = augmenter
        self._is_paired = is_paired
        self._batch_size = batch_size
        self._crop = crop
        self._multiple = multiple
        self._seed = seed

    def __getitem__(self, number: int) -> PairBatch:
        """The batch of that number, counted over all epochs."""
        positions = range(number * self._batch_size, (number + 1) * self._batch_size)
        make = self._pair if self._is_paired else self._strangers
        radar, seen, optical, observed = zip(*(make(position) for position in positions), strict=True)
        parts = (np.stack(radar), np.stack(seen), np.stack(optical), np.stack(observed))
        return scaled(self._source, parts, self._multiple)

    def _pair(self, position: int) -> tuple[Floats, Flags, Floats, Flags]:
        index = self._index(_RADAR, position)
        window = self._window(_RADAR, position)
        radar, seen = self._source.read(_RADAR, index, window)
        optical, observed = self._source.read(_OPTICAL, index, window)
        both, valid = self._changed(np.concatenate([radar, optical]), seen & observed, _RADAR, position)
        return both[: len(radar)], valid, both[len(radar) :], valid

    def _strangers(self, position: int) -> tuple[Floats, Flags, Floats, Flags]:
        return *self._one(_RADAR, position), *self._one(_OPTICAL, position)

    def _one(self, side: int, position: int) -> tuple[Floats, Flags]:
        physical, valid = self._source.read(side, self._index(side, position), self._window(side, position))
        return self._changed(physical, valid, side, position)

    def _index(self, side: int, position: int) -> int:
        return int(self._source.indices[endless_order(len(self._source), position, self._seed, side)])

    def _window(self, side: int, position: int) -> tuple[slice, slice]:
        rng = np.random.default_rng((self._seed, side, position))
        shape = self._source.store.roles[self._source.roles[side]].shape[1:]
        sides = [length if self._crop is None else min(self._crop, length) for length in shape]
        starts = [int(rng.integers(length - side + 1)) for length, side in zip(shape, sides, strict=True)]
        rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        return rows, columns

    def _changed(self, physical: Floats, valid: Flags, side: int, position: int) -> tuple[Floats, Flags]:
        key = (self._seed, side, position, _CHANGES)
        changed = self._augmenter(np.ascontiguousarray(physical.transpose(1, 2, 0)), None, valid, key=key)
        return changed.image.transpose(2, 0, 1), changed.valid


class WholePairs(Dataset[PairBatch]):
    """The whole pairs of a source in their order.

    Args:
        source: The pairs.
        batch_size: Pairs a batch.
        multiple: Height and width are mirrored up to multiples of this; what is added is not valid.
    """

    def __init__(self, source: PairSource, *, batch_size: int, multiple: int) -> None:
        self._source = source
        self._batch_size = batch_size
        self._multiple = multiple

    def __len__(self) -> int:
        return -(-len(self._source) // self._batch_size)

    def __getitem__(self, number: int) -> PairBatch:
        """Batch number ``number``; the last one may be smaller."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        rows = self._source.indices[number * self._batch_size : (number + 1) * self._batch_size]
        everything = (slice(None), slice(None))
        pairs = [(*self._source.read(0, row, everything), *self._source.read(1, row, everything)) for row in rows]
        radar, seen, optical, observed = (np.stack(part) for part in zip(*pairs, strict=True))
        valid = seen & observed
        return scaled(self._source, (radar, valid, optical, valid), self._multiple)


def scaled(source: PairSource, parts: tuple[Floats, Flags, Floats, Flags], multiple: int) -> PairBatch:
    """Normalises physical values and mirrors pictures up to a multiple of some pixels.

    Args:
        source: Whose scaling to use.
        parts: Radar (N, C, H, W), its validity (N, H, W), optical (N, K, H, W), its validity.
        multiple: The number of pixels.
    """
    radar, seen, optical, observed = parts
    height, width = seen.shape[1:]
    margins = ((0, 0), (0, -height % multiple), (0, -width % multiple))
    return (
        reflect_pad(source.scaling[0].normalise(radar, seen), multiple),
        np.pad(seen, margins)[:, None],
        reflect_pad(source.scaling[1].normalise(optical, observed), multiple),
        np.pad(observed, margins)[:, None],
    )
