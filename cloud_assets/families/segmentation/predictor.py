"""Predictor of masks from raw digital numbers."""

import math
from collections.abc import Sequence
from functools import cached_property, reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.bands import INSTRUMENTS, UNLABELLED
from cloud_assets.errors import InvalidModel
from cloud_assets.families.segmentation.recipe import SegmentationSection
from cloud_assets.imagery.geometry import grow
from cloud_assets.inference.back_ends import class_probability, pixel_bytes
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import Predictor, check_input, reflect_pad
from cloud_assets.patches.preprocessing import resized

Codes = npt.NDArray[np.uint8]


class SegmentationPredictor(Predictor):
    """Runs a segmentation model, on patches and on windows of whole scenes.

    Each patch is first mirrored beyond its edges by :attr:`border` pixels. Windows are so at the scene's edge only.

    Raises:
        InvalidModel: If the card names no threshold or no cloud classes.
    """

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        card = bundle.card
        section = SegmentationSection.of(card)
        if card.threshold is None:
            raise InvalidModel(f"{card.task}/{card.variant}: the model card has no decision threshold: train again.")
        super().__init__(bundle, device, network)
        self._bundle = bundle
        self._threshold = card.threshold.value
        self._cloud_classes = list(section.cloud_classes)
        self.border = section.mirrored_border
        """Pixels by which patches are mirrored beyond their edges."""
        self._block = card.network.coarsening
        self._margin = math.ceil(self.border / self._block)  # the border in pixels of the network
        self._is_augmented = section.test_time_augmentation
        self._outline_metres = section.outline_metres

    @cached_property
    def pixel_bytes(self) -> float:
        """See :func:`cloud_assets.inference.back_ends.pixel_bytes`."""
        return pixel_bytes(self._bundle, self._device)

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Predicts masks; any height and width.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            ``mask`` (N, H, W) uint8 cloud codes, 255 where there is no data; ``cloud_probability`` (N, H, W) float32;
            ``class_probability`` (N, K, H, W) float32 in the order of the card's classes.
        """
        padded = self.network_input(dn)
        shape = (max(self.card.out_channels, 2), *padded.shape[2:])
        whole = (math.ceil(side / self._block.numerator) * self._block.denominator for side in dn.shape[2:])
        rows, columns = (slice(self._margin, self._margin + side) for side in whole)
        probability = self._in_batches(padded, self._probability, shape)[..., rows, columns]
        answer = self.decided(self._finer(probability, dn), self.card.preprocessing.profile.valid(dn))
        for mask in answer["mask"]:
            mask[:] = self.outlined(mask, self.outline_radius())
        return answer

    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See :meth:`Predictor.network_input`."""
        pixels = self.card.preprocessing(check_input(dn, self.card), self._block)[0]
        return reflect_pad(pixels, self.card.network.size_multiple, self._margin)

    def window_probability(
        self, dn: npt.NDArray[Any], inside: Sequence[tuple[slice, slice]], *, augment: bool | None = None
    ) -> npt.NDArray[np.float32]:
        """Class probabilities (N, K, H, W) of windows of a scene, to be blended before :meth:`decided` makes masks.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.
            inside: Rows and columns of each window that lie in the scene. The others are filled as :meth:`predict`
                fills the surroundings of a patch, with preprocessed pixels as in a mirror.
            augment: Average over four orientations; None: as the card says.
        """
        windows = [self._mirrored(*one) for one in zip(dn, inside, strict=True)]
        pixels = np.stack(windows) if len(windows) > 1 else windows[0][np.newaxis]
        padded = reflect_pad(pixels, self.card.network.size_multiple)
        height, width = pixels.shape[2:]
        probability = self._in_one_call(padded, lambda batch: self._probability(batch, augment))[..., :height, :width]
        return self._finer(probability, dn)

    def decided(
        self, class_probability: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
    ) -> dict[str, npt.NDArray[Any]]:
        """The answer that class probabilities (N, K, H, W) come to; ``valid`` is (N, H, W), False without data."""
        return {
            "mask": decide(class_probability, valid, self._cloud_classes, self._threshold),
            "cloud_probability": _summed(class_probability, self._cloud_classes),
            "class_probability": class_probability,
        }

    def outline_radius(self, pixel_metres: float | None = None) -> float:
        """Pixels by which masks grow; without a size of pixels by that of the instrument, and 0 if it has none."""
        profile = INSTRUMENTS[self.card.preprocessing.instrument]
        metres = pixel_metres or profile.find(self.card.bands[0]).resolution_m
        return self._outline_metres / metres if metres else 0.0

    def outlined(self, mask: npt.NDArray[np.uint8], radius: float) -> npt.NDArray[np.uint8]:
        """A mask (H, W) whose clouds have grown by a radius in pixels; what is new is of the thinnest kind."""
        if radius < 1:
            return mask
        is_cloud = reduce(np.logical_or, (mask == code for code in self._cloud_classes))
        is_new = grow(is_cloud, radius) & ~is_cloud & (mask != UNLABELLED)
        return _either(is_new, np.uint8(self._cloud_classes[-1]), mask)

    def _mirrored(self, dn: npt.NDArray[Any], inside: tuple[slice, slice]) -> npt.NDArray[np.float32]:
        if self._block != 1:  # blocks do not end where the scene does: its digital numbers are mirrored already
            return self.card.preprocessing(dn, self._block)[0]
        pixels = self.card.preprocessing(dn[:, *inside])[0]
        margins = [(part.start, side - part.stop) for part, side in zip(inside, dn.shape[1:], strict=True)]
        return np.pad(pixels, ((0, 0), *margins), mode="reflect") if np.any(margins) else pixels

    def _finer(self, probability: npt.NDArray[np.float32], dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Probabilities (N, K, h, w) of the network's pixels as those of the picture's, (N, C, H, W)."""
        return probability if self._block == 1 else resized(probability, self._block)[..., : dn.shape[2], : dn.shape[3]]

    def _probability(self, batch: Tensor, augment: bool | None = None) -> Tensor:
        """(N, K, H, W) probabilities, in one call for each orientation."""
        probability = class_probability(self._network(batch))
        if self._is_augmented if augment is None else augment:
            turned = [class_probability(self._network(batch.flip(flip))).flip(flip) for flip in _FLIPS]
            return torch.stack([probability, *turned]).mean(dim=0)
        return probability


_FLIPS: list[list[int]] = [[3], [2], [2, 3]]
"""Axes that test-time augmentation flips, besides the picture as it is."""


def decide(
    probability: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], cloud_classes: Sequence[int], threshold: float
) -> Codes:
    """Masks (N, H, W) from probabilities (N, K, H, W): first cloud or not, then the likeliest class of that side.

    Cloud is where the summed probability of the cloud classes reaches the threshold; without data the code is 255.
    """
    other_classes = [index for index in range(probability.shape[1]) if index not in cloud_classes]
    is_cloud = _summed(probability, cloud_classes) >= threshold
    mask = _either(is_cloud, _likeliest(probability, cloud_classes), _likeliest(probability, other_classes))
    return _either(valid, mask, np.uint8(UNLABELLED))


def _summed(probability: npt.NDArray[np.float32], classes: Sequence[int]) -> npt.NDArray[np.float32]:
    return reduce(np.add, (probability[:, index] for index in classes))  # without the copies of an index by a list


def _either(flags: npt.NDArray[np.bool_], codes: Codes | np.uint8, others: Codes | np.uint8) -> Codes:
    """As ``np.where`` of codes from 0 to 255, whose differences wrap around: ten times as fast on scattered flags."""
    chosen: Codes = others + flags * (codes - others)
    return chosen


def _likeliest(probability: npt.NDArray[np.float32], classes: Sequence[int]) -> Codes:
    """The likeliest of some classes, (N, H, W), the first of equal ones."""
    likeliest = np.full_like(probability[:, 0], classes[0], np.uint8)
    for place, index in enumerate(classes[1:], 1):  # argmax over an axis that is not the last takes ten times as long
        highest = reduce(np.maximum, (probability[:, one] for one in classes[:place]))
        likeliest = _either(probability[:, index] > highest, np.uint8(index), likeliest)
    return likeliest
