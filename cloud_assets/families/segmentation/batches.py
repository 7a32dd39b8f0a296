"""Training and validation batches of segmentation models."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import UNLABELLED
from cloud_assets.learning.numbered_batches import (
    REAL,
    SIMULATED,
    NumberedBatches,
    OrderedBatches,
    Sample,
    padded,
    random_window,
)
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.preprocessing import Preprocessing, coarser
from cloud_assets.patches.store import PatchStore


@dataclass(frozen=True)
class PatchSource:
    """Some patches of a store, some of its bands."""

    store: PatchStore
    indices: npt.NDArray[np.int64]
    channels: Sequence[int]  # which of its bands, in the order of the network
    answers: npt.NDArray[np.uint8] | None = None  # (rows of the store, H, W, K) a teacher's: see distillation.py

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int, window: tuple[slice, slice]) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Digital numbers (C, h, w) and cloud codes of a window of one patch: (h, w), before answers (h, w, 1 + K)."""
        rows, columns = window
        labels = self.store.masks[index, rows, columns]
        if self.answers is not None:
            labels = np.dstack([labels, self.answers[index, rows, columns]])
        return self.store.array()[index, :, rows, columns][self.channels], labels


@dataclass(frozen=True)
class Composition:
    """What a training batch is made of."""

    real: PatchSource  # the labelled patches of the training split
    simulated: PatchSource | None  # simulated patches, if any are mixed in
    simulated_fraction: float  # their share of each batch
    compositor: CloudCompositor | None  # lays clouds over clear patches, if asked for
    clear: frozenset[int]  # rows of the store that are clear enough for that
    composited_fraction: float  # how many of them get clouds


@dataclass(frozen=True, eq=False)
class TrainingBatches(NumberedBatches):
    """Training batches: images (N, C, H, W) float32 and class indices (N, H, W) uint8, 255 unlabelled.

    Before a teacher's answers, these too, (N, H, W, K) uint8.

    Patches are cropped, composited, augmented and preprocessed.
    """

    composition: Composition
    preprocessing: Preprocessing
    augmenter: Augmenter
    class_codes: npt.NDArray[np.uint8]  # (256,), cloud code -> class index, 255 where unlabelled
    crop: int | None  # side of random crops, pixels; None for whole patches
    multiple: int  # height and width of images are padded to multiples of this
    block: Fraction = Fraction(1)  # side of the images' pixels, in pixels of the labels

    @property
    def simulated_fraction(self) -> float:
        """Share of simulated patches."""
        return self.composition.simulated_fraction

    def sample(self, stream: int, position: int) -> Sample:
        """Image and class indices of one patch."""
        key = (self.seed, stream, position)
        source = self.composition.real
        if stream == SIMULATED and self.composition.simulated is not None:
            source = self.composition.simulated
        index = int(source.indices[self.place(len(source), position, stream)])
        rng = np.random.default_rng((*key, 1))
        dn, labels = source.read(index, random_window(rng, source.store.masks.shape[1:], self.crop))
        reflectance, valid = self.preprocessing.to_physical(dn)
        compositor = self.composition.compositor
        may_be_clouded = compositor is not None and stream == REAL and index in self.composition.clear
        if may_be_clouded and compositor is not None and rng.random() < self.composition.composited_fraction:
            mask = labels if labels.ndim == 2 else labels[..., 0]
            reflectance, mask = compositor(reflectance, mask, valid, key=(*key, 2))
            # The teacher has not seen these clouds.
            labels = mask if labels.ndim == 2 else np.dstack([mask, np.full_like(labels[..., 1:], UNLABELLED)])
        varied = self.augmenter(np.ascontiguousarray(reflectance.transpose(1, 2, 0)), labels, valid, key=key)
        image = self.preprocessing.normalise(*coarser(varied.image.transpose(2, 0, 1), varied.valid, self.block))
        if varied.mask.ndim == 2:
            return padded(image, self.class_codes[varied.mask], self.multiple, block=self.block)
        image, labels = padded(image, varied.mask, self.multiple, block=self.block)
        return image, self.class_codes[labels[..., 0]], labels[..., 1:]


@dataclass(frozen=True, eq=False)
class ValidationBatches(OrderedBatches):
    """Validation batches of the same form: whole patches, preprocessed and padded as for prediction."""

    source: PatchSource
    preprocessing: Preprocessing
    class_codes: npt.NDArray[np.uint8]  # (256,), cloud code -> class index, 255 where unlabelled
    multiple: int  # height and width of images are padded to multiples of this
    border: int = 0  # mirrored pixels of the network on each side, as the predictor adds them
    block: Fraction = Fraction(1)  # side of the images' pixels, in pixels of the labels

    @property
    def count(self) -> int:
        """Number of patches."""
        return len(self.source)

    def sample(self, position: int) -> Sample:
        """Image and class indices of one patch."""
        dn, codes = self.source.read(int(self.source.indices[position]), (slice(None), slice(None)))
        valid = self.preprocessing.profile.valid(dn)
        truth = np.where(valid, self.class_codes[codes], np.uint8(UNLABELLED))
        return padded(self.preprocessing(dn, self.block)[0], truth, self.multiple, self.border, block=self.block)
