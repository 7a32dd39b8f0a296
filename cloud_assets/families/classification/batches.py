"""Training and validation batches of classifiers: windows of patches with the class of their own coverage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows, cloud_percentage
from cloud_assets.families.classification.predictor import fit_size
from cloud_assets.learning.numbered_batches import REAL, NumberedBatches, OrderedBatches, Sample
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.cutting import resize, resize_codes
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore

COVER_CELLS = 16  # cells along each side of a cover map


@dataclass(frozen=True)
class WindowSource:
    """Labelled windows of a store, some of its bands."""

    store: PatchStore
    windows: Windows
    channels: list[int]  # which of its bands, in the order of the network

    def __len__(self) -> int:
        return len(self.windows)

    def read(self, position: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Digital numbers (C, h, w) and cloud codes (h, w) of a window."""
        dn = self.windows.read(self.store, position, IMAGES)[self.channels]
        return dn, self.windows.read(self.store, position, "masks")


@dataclass(frozen=True, eq=False)
class TrainingWindows(NumberedBatches):
    """Training batches: windows resized, augmented, labelled anew and normalised.

    A batch holds images (N, C, size, size) float32, classes (N,) int64, and cover maps (N, 2, cells, cells): the
    shares of cloudy and of labelled pixels in each cell.
    """

    real: WindowSource
    simulated: WindowSource | None  # windows of simulated patches, if any are mixed in
    fraction: float  # their share; 0 without any
    preprocessing: Preprocessing
    augmenter: Augmenter
    classes: CoverageClasses
    size: int  # edge of the network's input
    minimum_valid: float  # a window that augmentation leaves with a smaller share of valid pixels is taken as it was

    @property
    def simulated_fraction(self) -> float:
        """Share of simulated windows."""
        return self.fraction

    def sample(self, stream: int, position: int) -> Sample:
        """Image, class and cover map of one window."""
        source = self.real if self.simulated is None or stream == REAL else self.simulated
        index = self.place(len(source), position, stream)
        dn, codes = source.read(index)
        physical, valid = self.preprocessing.to_physical(dn)
        target = (self.size, self.size)
        image = resize(physical, valid, target, np.nan)
        seen = ~np.isnan(image[0])
        image = np.moveaxis(np.where(seen, image, np.float32(0)), 0, -1)
        mask = resize_codes(codes, target)
        varied = self.augmenter(np.ascontiguousarray(image), mask, seen, key=(self.seed, stream, position))
        percentage = float(source.windows.percentages[index])
        change = float(cloud_percentage(varied.mask) - cloud_percentage(mask))
        if varied.valid.mean() >= self.minimum_valid and np.isfinite(change):
            # Exact where pixels only move about; where some come or go, the cover changes by as much as theirs.
            percentage = min(max(percentage + change, 0.0), 100.0)
            image, seen, mask = varied.image, varied.valid, varied.mask
        normalised = self.preprocessing.normalise(np.ascontiguousarray(np.moveaxis(image, -1, 0)), seen)
        return normalised, np.int64(self.classes.classify(percentage)), cover_map(mask)


@dataclass(frozen=True, eq=False)
class ValidationWindows(OrderedBatches):
    """Validation batches of the same form: windows in their order, preprocessed as for prediction."""

    source: WindowSource
    preprocessing: Preprocessing
    size: int  # edge of the network's input

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.source)

    def sample(self, position: int) -> Sample:
        """Image, class and cover map of one window."""
        dn, mask = self.source.read(position)
        image = fit_size(*self.preprocessing(dn), self.size)
        return image, self.source.windows.labels[position], cover_map(mask)


def cover_map(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Shares of cloudy and of labelled pixels of cloud codes (H, W) by cell, (2, COVER_CELLS, COVER_CELLS) float32."""
    planes = np.stack([np.isin(mask, (THICK_CLOUD, THIN_CLOUD)), mask != UNLABELLED]).astype(np.float32)
    return resize(planes, np.ones(mask.shape, bool), (COVER_CELLS, COVER_CELLS), 0.0).clip(0, 1)
