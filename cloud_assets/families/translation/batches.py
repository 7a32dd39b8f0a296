"""Training and validation batches of translation models: pairs of radar and optical patches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.learning.numbered_batches import NumberedBatches, OrderedBatches, Sample, padded, random_window
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.store import PatchStore

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
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


@dataclass(frozen=True, eq=False)
class TrainingPairs(NumberedBatches):
    """Training batches: pairs cropped, flipped and scaled.

    A batch holds radar (N, C, H, W) and optical (N, K, H, W) pictures, each followed by its validity (N, 1, H, W).
    """

    source: PairSource
    """The pairs of the training split."""
    augmenter: Augmenter
    """Flips them, both sensors alike where they are paired."""
    is_paired: bool
    """Whether the optical patch is of the same place as the radar patch, or of another."""
    crop: int | None
    """Side of random crops, pixels; None for whole patches."""
    multiple: int
    """Height and width are mirrored up to multiples of this."""

    def sample(self, stream: int, position: int) -> Sample:
        """Radar and optical picture and their validity."""
        radar, seen = self._read(_RADAR, _RADAR, position)
        if self.is_paired:
            optical, observed = self._read(_OPTICAL, _RADAR, position)
            both, valid = self._augmented(_RADAR, position, np.concatenate([radar, optical]), seen & observed)
            return _scaled(self.source, both[: len(radar)], valid, both[len(radar) :], valid, self.multiple)
        radar, seen = self._augmented(_RADAR, position, radar, seen)
        optical, observed = self._augmented(_OPTICAL, position, *self._read(_OPTICAL, _OPTICAL, position))
        return _scaled(self.source, radar, seen, optical, observed, self.multiple)

    def _read(self, side: int, order: int, position: int) -> tuple[Floats, Flags]:
        """A window of one side of the pair at a position of the order of one side."""
        index = int(self.source.indices[self.place(len(self.source), position, order)])
        rng = np.random.default_rng((self.seed, order, position))
        shape = self.source.store.roles[self.source.roles[order]].shape[1:]
        return self.source.read(side, index, random_window(rng, shape, self.crop))

    def _augmented(self, side: int, position: int, physical: Floats, valid: Flags) -> tuple[Floats, Flags]:
        key = (self.seed, side, position, _CHANGES)
        changed = self.augmenter(np.ascontiguousarray(physical.transpose(1, 2, 0)), None, valid, key=key)
        return changed.image.transpose(2, 0, 1), changed.valid


@dataclass(frozen=True, eq=False)
class WholePairs(OrderedBatches):
    """Validation batches of the same form: whole pairs in their order."""

    source: PairSource
    """The pairs."""
    multiple: int
    """Height and width are mirrored up to multiples of this; what is added is not valid."""

    @property
    def count(self) -> int:
        """Number of pairs."""
        return len(self.source)

    def sample(self, position: int) -> Sample:
        """Radar and optical picture and their validity."""
        row, everything = int(self.source.indices[position]), (slice(None), slice(None))
        (radar, seen), (optical, observed) = (self.source.read(side, row, everything) for side in (_RADAR, _OPTICAL))
        return _scaled(self.source, radar, seen & observed, optical, seen & observed, self.multiple)


def _scaled(
    source: PairSource, radar: Floats, seen: Flags, optical: Floats, observed: Flags, multiple: int
) -> tuple[Floats, Flags, Floats, Flags]:
    """Normalises physical values and mirrors pictures up to a multiple of some pixels."""
    made, there = padded(source.scaling[_RADAR].normalise(radar, seen), seen, multiple, fill=False)
    other, known = padded(source.scaling[_OPTICAL].normalise(optical, observed), observed, multiple, fill=False)
    return made, there[None], other, known[None]
