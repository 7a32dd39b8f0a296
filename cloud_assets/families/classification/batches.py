"""Batches for classifiers: windows of patches with the class of their own coverage; the same in any process."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows, cloud_percentage
from cloud_assets.families.classification.predictor import fit_size
from cloud_assets.learning.numbered_batches import endless_order
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.resizing import resize, resize_codes
from cloud_assets.patches.store import PatchStore

LabelledBatch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Images (N, C, size, size) float32, normalised; classes (N,) int64; and cover maps (N, 2, cells, cells) float32, the
shares of cloudy and of labelled pixels in each cell."""

COVER_CELLS = 16
"""Cells along each side of a cover map."""


@dataclass(frozen=True)
class WindowSource:
    """Labelled windows of a store, some of its bands."""

    store: PatchStore
    """The store."""
    windows: Windows
    """Which windows."""
    channels: list[int]
    """Which of its bands, in the order of the network."""

    def __len__(self) -> int:
        return len(self.windows)


class TrainingWindows(Dataset[LabelledBatch]):
    """Training batches by number: resized, augmented, labelled anew, normalised.

    Args:
        real: Windows of the training split.
        simulated: Windows of simulated patches, if any are mixed in.
        simulated_fraction: Their share.
        preprocessing: From digital numbers to the network's input.
        augmenter: Varies the windows.
        classes: The coverage classes.
        size: Edge of the network's input.
        batch_size: Windows a batch.
        minimum_valid: A window that augmentation leaves with fewer valid pixels is taken as it was.
        seed: What the randomness depends on, besides the number of the batch.
    """

    def __init__(
        self,
        real: WindowSource,
        simulated: WindowSource | None,
        simulated_fraction: float,
        preprocessing: Preprocessing,
        augmenter: Augmenter,
        classes: CoverageClasses,
        *,
        size: int,
        batch_size: int,
        minimum_valid: float,
        seed: int,
    ) -> None:
        self._sources = [real] if simulated is None else [real, simulated]
        self._fraction = 0.0 if simulated is None else simulated_fraction
        self._preprocessing = preprocessing
        self._augmenter = augmenter
        self._classes = classes
        self._size = size
        self._batch_size = batch_size
        self._minimum_valid = minimum_valid
        self._seed = seed

    def __getitem__(self, number: int) -> LabelledBatch:
        """The batch of that number, counted over all epochs."""
        first, after = self._simulated_before(number), self._simulated_before(number + 1)
        places = [(1, position) for position in range(first, after)]
        reals = range(number * self._batch_size - first, (number + 1) * self._batch_size - after)
        samples = [self._sample(*place) for place in (*places, *((0, position) for position in reals))]
        images, labels, maps = zip(*samples, strict=True)
        return np.stack(images), np.array(labels, np.int64), np.stack(maps)

    def _simulated_before(self, number: int) -> int:
        """Simulated windows in all batches before one: their share is exact in the long run."""
        return int(np.floor(number * self._batch_size * self._fraction + 1e-9))

    def _sample(self, stream: int, position: int) -> tuple[npt.NDArray[np.float32], int, npt.NDArray[np.float32]]:
        source = self._sources[stream]
        key = (self._seed, stream, position)
        index = endless_order(len(source), position, self._seed, stream)
        dn = source.windows.read(source.store, index, IMAGES)[source.channels]
        physical, valid = self._preprocessing.to_physical(dn)
        target = (self._size, self._size)
        image = resize(physical, valid, target, np.nan)
        seen = ~np.isnan(image[0])
        image = np.moveaxis(np.where(seen, image, np.float32(0)), 0, -1)
        mask = resize_codes(source.windows.read(source.store, index, "masks"), target)
        varied = self._augmenter(np.ascontiguousarray(image), mask, seen, key=key)
        percentage = float(source.windows.percentages[index])
        change = float(cloud_percentage(varied.mask) - cloud_percentage(mask))
        if varied.valid.mean() >= self._minimum_valid and np.isfinite(change):
            # Exact where pixels only move about; where some come or go, the cover changes by as much as theirs.
            percentage = min(max(percentage + change, 0.0), 100.0)
            image, seen, mask = varied.image, varied.valid, varied.mask
        normalised = self._preprocessing.normalise(np.ascontiguousarray(np.moveaxis(image, -1, 0)), seen)
        return normalised, int(self._classes.classify(percentage)), cover_map(mask)


class ValidationWindows(Dataset[LabelledBatch]):
    """The windows of a source in their order, preprocessed as for prediction.

    Args:
        source: Windows of the validation split.
        preprocessing: From digital numbers to the network's input.
        size: Edge of the network's input.
        batch_size: Windows a batch.
    """

    def __init__(self, source: WindowSource, preprocessing: Preprocessing, *, size: int, batch_size: int) -> None:
        self._source = source
        self._preprocessing = preprocessing
        self._size = size
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._source) // self._batch_size)

    def __getitem__(self, number: int) -> LabelledBatch:
        """Batch number ``number``; the last one may be smaller."""
        positions = range(number * self._batch_size, min((number + 1) * self._batch_size, len(self._source)))
        images, maps = [], []
        for position in positions:
            dn = self._source.windows.read(self._source.store, position, IMAGES)[self._source.channels]
            images.append(fit_size(*self._preprocessing(dn), self._size))
            maps.append(cover_map(self._source.windows.read(self._source.store, position, "masks")))
        return np.stack(images), self._source.windows.labels[list(positions)], np.stack(maps)


def cover_map(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Shares of cloudy and of labelled pixels, cell by cell.

    Args:
        mask: (H, W) cloud codes, 255 unlabelled.

    Returns:
        (2, :data:`COVER_CELLS`, :data:`COVER_CELLS`) float32.
    """
    planes = np.stack([np.isin(mask, (THICK_CLOUD, THIN_CLOUD)), mask != UNLABELLED]).astype(np.float32)
    everywhere = np.ones(mask.shape, bool)
    return resize(planes, everywhere, (COVER_CELLS, COVER_CELLS), 0.0).clip(0, 1)
