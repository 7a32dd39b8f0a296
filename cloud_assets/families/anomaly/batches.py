"""Batches of cloud-free pictures, some with simulated clouds laid over; number n is the same in any process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from cloud_assets.bands import CLEAR, INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.learning.numbered_batches import Batch, endless_order, padded
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.resizing import resize
from cloud_assets.patches.store import PatchStore

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Some cloud-free pictures of a store."""

    store: PatchStore
    """The store."""
    indices: Integers
    """Which of its patches."""
    channels: Sequence[int]
    """Which of its bands, in the order of the network."""
    size: int | None = None
    """Larger pictures are reduced to this edge; None leaves them as they are."""

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, place: int) -> npt.NDArray[Any]:
        """Digital numbers (C, H, W) of the picture at a place from 0 to ``len(self) - 1``."""
        picture: npt.NDArray[Any] = self.store.array()[self.indices[place]][list(self.channels)]
        if self.size is None or max(picture.shape[1:]) <= self.size:
            return picture
        instrument = INSTRUMENTS[self.store.roles[IMAGES].instrument]
        return resize(picture, instrument.valid(picture), (self.size, self.size), instrument.nodata or 0.0)


@dataclass(frozen=True)
class Clouding:
    """Lays simulated clouds over some of the pictures."""

    compositor: CloudCompositor
    """Lays them."""
    fraction: float
    """Over this share of the training pictures."""


class NormalBatches(Dataset[Batch]):
    """Training batches by number: images, and for each pixel whether it is untouched, synthetic cloud or nodata.

    Args:
        real: The normal pictures of the training split.
        simulated: Simulated cloud-free pictures, or None.
        simulated_fraction: Their share.
        clouding: Simulated clouds; None where only untouched pictures are wanted.
        preprocessing: From digital numbers to the network's input.
        augmenter: Varies the pictures.
        batch_size: Pictures a batch.
        crop: Side of random crops, pixels; None for whole pictures.
        multiple: Height and width are padded to multiples of this.
        seed: What the randomness depends on, besides the number of the batch.
    """

    def __init__(
        self,
        real: Pictures,
        simulated: Pictures | None,
        simulated_fraction: float,
        clouding: Clouding | None,
        preprocessing: Preprocessing,
        augmenter: Augmenter,
        *,
        batch_size: int,
        crop: int | None,
        multiple: int,
        seed: int,
    ) -> None:
        self._real, self._simulated, self._simulated_fraction = real, simulated, simulated_fraction
        self._clouding = clouding
        self._preprocessing = preprocessing
        self._augmenter = augmenter
        self._batch_size = batch_size
        self._crop = crop
        self._multiple = multiple
        self._seed = seed

    def __getitem__(self, number: int) -> Batch:
        """The batch of that number, counted over all epochs."""
        places = range(number * self._batch_size, (number + 1) * self._batch_size)
        images, targets = zip(*(self._picture(place) for place in places), strict=True)
        return padded(np.stack(images), np.stack(targets), self._multiple)

    def _picture(self, place: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        rng = np.random.default_rng((self._seed, place))
        source = self._real
        if self._simulated is not None and rng.random() < self._simulated_fraction:
            source = self._simulated
        chosen = endless_order(len(source), place, self._seed, source is self._real)
        dn = _cropped(rng, source.read(chosen), self._crop)
        reflectance, valid = self._preprocessing.to_physical(dn)
        mask = np.full(valid.shape, CLEAR, np.uint8)
        if self._clouding is not None and rng.random() < self._clouding.fraction:
            reflectance, mask = self._clouding.compositor(reflectance, mask, valid, key=(self._seed, place, 1))
        varied = self._augmenter(
            np.ascontiguousarray(reflectance.transpose(1, 2, 0)), mask, valid, key=(self._seed, place, 2)
        )
        image = self._preprocessing.normalise(varied.image.transpose(2, 0, 1), varied.valid)
        return image, cloud_target(varied.mask, varied.valid)


class NormalChecks(Dataset[Batch]):
    """Validation batches of one picture each, in order; with clouding each picture comes untouched and clouded.

    Args:
        sources: The pictures.
        clouding: Simulated clouds, the same in each epoch; None where only untouched pictures are wanted.
        preprocessing: From digital numbers to the network's input.
        multiple: Height and width are padded to multiples of this.
    """

    def __init__(
        self, sources: Sequence[Pictures], clouding: Clouding | None, preprocessing: Preprocessing, *, multiple: int
    ) -> None:
        versions = (False,) if clouding is None else (False, True)
        self._items = [(source, place, v) for source in sources for place in range(len(source)) for v in versions]
        self._clouding = clouding
        self._preprocessing = preprocessing
        self._multiple = multiple

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> Batch:
        """Batch number ``number``."""
        source, place, is_clouded = self._items[number]
        reflectance, valid = self._preprocessing.to_physical(source.read(place))
        mask = np.full(valid.shape, CLEAR, np.uint8)
        if is_clouded and self._clouding is not None:
            reflectance, mask = self._clouding.compositor(reflectance, mask, valid, key=(number,))
        image = self._preprocessing.normalise(reflectance, valid)
        return padded(image[None], cloud_target(mask, valid)[None], self._multiple)


def cloud_target(mask: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """What a network should say: 1 cloud, 0 none (shadow is none), 255 no data.

    Args:
        mask: (H, W) cloud codes.
        valid: (H, W) bool.
    """
    is_cloud = np.isin(mask, (THICK_CLOUD, THIN_CLOUD)).astype(np.uint8)
    return np.where(valid & (mask != UNLABELLED), is_cloud, np.uint8(UNLABELLED))


def _cropped(rng: np.random.Generator, dn: npt.NDArray[Any], side: int | None) -> npt.NDArray[Any]:
    if side is None:
        return dn
    tops = [int(rng.integers(max(length - side, 0) + 1)) for length in dn.shape[1:]]
    return dn[:, tops[0] : tops[0] + side, tops[1] : tops[1] + side]
