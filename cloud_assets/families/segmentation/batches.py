"""Training and validation batches; batch number n is the same in any process and after any interruption."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from cloud_assets.bands import UNLABELLED
from cloud_assets.learning.numbered_batches import Batch, endless_order, padded
from cloud_assets.patches.augmenter import Augmented, Augmenter
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.store import PatchStore

_REAL, _SIMULATED = 0, 1


@dataclass(frozen=True)
class PatchSource:
    """Some patches of a store, some of its bands."""

    store: PatchStore
    """The store."""
    indices: npt.NDArray[np.int64]
    """Which of its patches."""
    channels: Sequence[int]
    """Which of its bands, in the order of the network."""

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int, window: tuple[slice, slice]) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Digital numbers (C, h, w) and cloud codes (h, w) of a window of one patch.

        Args:
            index: Row of the store.
            window: Rows and columns.
        """
        rows, columns = window
        return self.store.array()[index, :, rows, columns][self.channels], self.store.masks[index, rows, columns]


@dataclass(frozen=True)
class Composition:
    """What a training batch is made of."""

    real: PatchSource
    """The labelled patches of the training split."""
    simulated: PatchSource | None
    """Simulated patches, if any are mixed in."""
    simulated_fraction: float
    """Their share of each batch."""
    compositor: CloudCompositor | None
    """Lays clouds over clear patches, if asked for."""
    clear: frozenset[int]
    """Rows of the store that are clear enough for that."""
    composited_fraction: float
    """How many of them get clouds."""


class TrainingBatches(Dataset[Batch]):
    """Batches by number: cropped, composited, augmented, preprocessed.

    Each source is run through in a new random order again and again, so that no patch is seen much more often than
    another, however long an epoch is.

    Args:
        composition: What batches are made of.
        preprocessing: From digital numbers to the network's input.
        augmenter: Varies the patches.
        class_codes: (256,) uint8, cloud code -> class index, 255 where unlabelled.
        batch_size: Patches a batch.
        crop: Side of random crops, pixels; None for whole patches.
        multiple: Height and width are padded to multiples of this.
        seed: What the randomness depends on, besides the number of the batch.
    """

    def __init__(
        self,
        composition: Composition,
        preprocessing: Preprocessing,
        augmenter: Augmenter,
        class_codes: npt.NDArray[np.uint8],
        *,
        batch_size: int,
        crop: int | None,
        multiple: int,
        seed: int,
    ) -> None:
        self._composition = composition
        self._preprocessing = preprocessing
        self._augmenter = augmenter
        self._class_codes = class_codes
        self._batch_size = batch_size
        self._crop = crop
        self._multiple = multiple
        self._seed = seed

    def __getitem__(self, number: int) -> Batch:
        """The batch of that number, counted over all epochs."""
        first, after = self._simulated_before(number), self._simulated_before(number + 1)
        patches = [self._patch(_SIMULATED, position) for position in range(first, after)]
        reals = range(number * self._batch_size - first, (number + 1) * self._batch_size - after)
        patches += [self._patch(_REAL, position) for position in reals]
        images = np.stack([patch.image for patch in patches]).transpose(0, 3, 1, 2)
        valid = np.stack([patch.valid for patch in patches])
        truth = self._class_codes[np.stack([patch.mask for patch in patches])]
        return padded(self._preprocessing.normalise(images, valid), truth, self._multiple)

    def _simulated_before(self, number: int) -> int:
        """Simulated patches in all batches before one: their share is exact in the long run."""
        return int(np.floor(number * self._batch_size * self._composition.simulated_fraction + 1e-9))

    def _patch(self, stream: int, position: int) -> Augmented:
        key = (self._seed, stream, position)
        source = self._composition.real
        if stream == _SIMULATED and self._composition.simulated is not None:
            source = self._composition.simulated
        index = int(source.indices[endless_order(len(source), position, self._seed, stream)])
        rng = np.random.default_rng((*key, 1))
        dn, mask = source.read(index, self._window(rng, source.store.masks.shape[1:]))
        reflectance, valid = self._preprocessing.to_physical(dn)
        compositor = self._composition.compositor
        may_be_clouded = compositor is not None and stream == _REAL and index in self._composition.clear
        if may_be_clouded and compositor is not None and rng.random() < self._composition.composited_fraction:
            reflectance, mask = compositor(reflectance, mask, valid, key=(*key, 2))
        image = np.ascontiguousarray(reflectance.transpose(1, 2, 0))
        return self._augmenter(image, mask, valid, key=key)

    def _window(self, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[slice, slice]:
        sides = [length if self._crop is None else min(self._crop, length) for length in shape]
        starts = [int(rng.integers(length - side + 1)) for length, side in zip(shape, sides, strict=True)]
        rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        return rows, columns


class ValidationBatches(Dataset[Batch]):
    """The whole patches of a source in their order, preprocessed as for prediction.

    Args:
        source: The patches of the validation split.
        preprocessing: From digital numbers to the network's input.
        class_codes: (256,) uint8, cloud code -> class index, 255 where unlabelled.
        batch_size: Patches a batch.
        multiple: Height and width are padded to multiples of this.
        border: Mirrored pixels on each side, as the predictor adds them.
    """

    def __init__(
        self,
        source: PatchSource,
        preprocessing: Preprocessing,
        class_codes: npt.NDArray[np.uint8],
        *,
        batch_size: int,
        multiple: int,
        border: int = 0,
    ) -> None:
        self._source = source
        self._preprocessing = preprocessing
        self._class_codes = class_codes
        self._batch_size = batch_size
        self._multiple = multiple
        self._border = border

    def __len__(self) -> int:
        return -(-len(self._source) // self._batch_size)

    def __getitem__(self, number: int) -> Batch:
        """Batch number ``number``; the last one may be smaller."""
        rows = self._source.indices[number * self._batch_size : (number + 1) * self._batch_size]
        dn, codes = self._source.store.array()[rows][:, self._source.channels], self._source.store.masks[rows]
        pixels, valid = self._preprocessing(dn)
        truth = np.where(valid, self._class_codes[codes], np.uint8(UNLABELLED))
        return padded(pixels, truth, self._multiple, self._border)
