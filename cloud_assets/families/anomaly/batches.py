"""Training and validation batches of anomaly models: cloud-free pictures, some under simulated clouds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.learning.numbered_batches import NumberedBatches, OrderedBatches, Sample, padded, random_window
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.cutting import resize
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore


@dataclass(frozen=True)
class Pictures:
    """Some cloud-free pictures of a store."""

    store: PatchStore
    indices: npt.NDArray[np.int64]
    channels: Sequence[int]  # which of its bands, in the order of the network
    size: int | None = None  # larger pictures are reduced to this edge; None leaves them as they are

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, place: int) -> npt.NDArray[Any]:
        """Digital numbers (C, H, W) of the picture at a place from 0 to ``len(self) - 1``."""
        picture: npt.NDArray[Any] = self.store.array()[self.indices[place]][list(self.channels)]
        if self.size is None or max(picture.shape[1:]) <= self.size:
            return picture
        instrument = INSTRUMENTS[self.store.roles[IMAGES].instrument]
        return resize(picture, instrument.valid(picture), (self.size, self.size), instrument.nodata or 0.0)


@dataclass(frozen=True, eq=False)
class NormalBatches(NumberedBatches):
    """Training batches: images (N, C, H, W) float32 and :func:`cloud_target` (N, H, W) uint8."""

    real: Pictures
    simulated: Pictures | None  # simulated cloud-free pictures, if any are mixed in
    fraction: float  # the probability of taking one of them
    compositor: CloudCompositor | None
    """Lays simulated clouds over pictures; None where only untouched pictures are wanted."""
    clouded_fraction: float  # over this share of them
    preprocessing: Preprocessing
    augmenter: Augmenter
    crop: int | None  # side of random crops, pixels; None for whole pictures
    multiple: int  # height and width are padded to multiples of this

    def sample(self, stream: int, position: int) -> Sample:
        """Image and target of one picture."""
        rng = np.random.default_rng((self.seed, position))
        source = self.real
        if self.simulated is not None and rng.random() < self.fraction:
            source = self.simulated
        dn = source.read(self.place(len(source), position, int(source is self.real)))
        rows, columns = random_window(rng, dn.shape[1:], self.crop)
        reflectance, valid = self.preprocessing.to_physical(dn[:, rows, columns])
        mask = np.full(valid.shape, CLEAR, np.uint8)
        if self.compositor is not None and rng.random() < self.clouded_fraction:
            reflectance, mask = self.compositor(reflectance, mask, valid, key=(self.seed, position, 1))
        varied = self.augmenter(
            np.ascontiguousarray(reflectance.transpose(1, 2, 0)), mask, valid, key=(self.seed, position, 2)
        )
        image = self.preprocessing.normalise(varied.image.transpose(2, 0, 1), varied.valid)
        return padded(image, cloud_target(varied.mask, varied.valid), self.multiple)


@dataclass(frozen=True, eq=False)
class NormalChecks(OrderedBatches):
    """Validation batches of the same form, one picture each; with clouds each picture comes untouched and clouded."""

    sources: Sequence[Pictures]
    compositor: CloudCompositor | None
    """Lays simulated clouds, the same in each epoch; None where only untouched pictures are wanted."""
    preprocessing: Preprocessing
    multiple: int  # height and width are padded to multiples of this

    @cached_property
    def _items(self) -> list[tuple[Pictures, int, CloudCompositor | None]]:
        versions = [None] if self.compositor is None else [None, self.compositor]
        return [(source, place, v) for source in self.sources for place in range(len(source)) for v in versions]

    @property
    def count(self) -> int:
        """Number of pictures, untouched and clouded."""
        return len(self._items)

    def sample(self, position: int) -> Sample:
        """Image and target of one picture."""
        source, place, compositor = self._items[position]
        reflectance, valid = self.preprocessing.to_physical(source.read(place))
        mask = np.full(valid.shape, CLEAR, np.uint8)
        if compositor is not None:
            reflectance, mask = compositor(reflectance, mask, valid, key=(position,))
        image = self.preprocessing.normalise(reflectance, valid)
        return padded(image, cloud_target(mask, valid), self.multiple)


def cloud_target(mask: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """What a network should say of cloud codes (H, W): 1 cloud, 0 none (shadow is none), 255 no data."""
    is_cloud = np.isin(mask, (THICK_CLOUD, THIN_CLOUD)).astype(np.uint8)
    return np.where(valid & (mask != UNLABELLED), is_cloud, np.uint8(UNLABELLED))
