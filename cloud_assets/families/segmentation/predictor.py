"""Masks from raw digital numbers: the one way in which validation, evaluation, scenes and serving run a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cloud_assets.bands import UNLABELLED
from cloud_assets.errors import InvalidModel
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.card import ModelCard
from cloud_assets.inference.device import autocast, choose_device
from cloud_assets.inference.mirrored_padding import reflect_pad
from cloud_assets.inference.predictor import check_input
from cloud_assets.inference.process_memory import keep_freed_memory

_GPU_BATCH = 8


class SegmentationPredictor:
    """Runs a segmentation model.

    Patches go through the network in batches of a fixed size (one on a processor, where larger ones gain nothing), so
    that a patch's mask does not depend on which patches it came with. Before that, each is continued as in a mirror by
    the card's ``mirrored_border`` (pixels; older cards have none).

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
    """

    def __init__(self, bundle: ModelBundle, device: str = "auto") -> None:
        if bundle.card.threshold is None:
            raise InvalidModel(f"{bundle.card.task}/{bundle.card.variant}: the model card names no decision threshold.")
        keep_freed_memory()
        self._card = bundle.card
        self._threshold = bundle.card.threshold.value
        self._cloud_classes: list[int] = list(bundle.card.details["cloud_classes"])
        self._border = int(bundle.card.details.get("mirrored_border", 0))
        self._orientations = _FLIPS if bundle.card.details.get("test_time_augmentation") else _FLIPS[:1]
        self._device = choose_device(device)
        self._network = bundle.network().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def card(self) -> ModelCard:
        """The card of the model."""
        return self._card

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Predicts masks; any height and width.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            ``mask`` (N, H, W) uint8 cloud codes, 255 where there is no data; ``cloud_probability`` (N, H, W) float32;
            ``class_probability`` (N, K, H, W) float32 in the order of the card's classes.

        Raises:
            InvalidData: If the shape does not fit the card.
        """
        pixels, valid = self._card.preprocessing(check_input(dn, self._card))
        rows, columns = (slice(self._border, self._border + side) for side in dn.shape[2:])
        padded = reflect_pad(pixels, self._card.network.size_multiple, self._border)
        probability = self._class_probability(padded)[..., rows, columns]
        return {
            "mask": decide(probability, valid, self._cloud_classes, self._threshold),
            "cloud_probability": probability[:, self._cloud_classes].sum(axis=1),
            "class_probability": probability,
        }

    def _class_probability(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) preprocessed pixels -> (N, K, H, W) probabilities."""
        size = 1 if self._device.type == "cpu" else _GPU_BATCH
        results = []
        with torch.inference_mode(), autocast("auto", self._device):
            for start in range(0, len(pixels), size):
                chunk = pixels[start : start + size]
                rows = np.arange(size) % len(chunk)  # a last, shorter batch is filled up: same size, same arithmetic
                batch = torch.from_numpy(chunk[rows]).to(self._device, memory_format=torch.channels_last)
                views = torch.stack([self._oriented(batch, flip) for flip in self._orientations])
                results.append(views.mean(dim=0)[: len(chunk)].cpu().numpy())
        empty = np.empty((0, max(self._card.out_channels, 2), *pixels.shape[2:]), np.float32)
        return np.concatenate(results) if results else empty

    def _oriented(self, batch: Tensor, flip: list[int]) -> Tensor:
        return class_probability(self._network(batch.flip(flip))).flip(flip)


_FLIPS: list[list[int]] = [[], [3], [2], [2, 3]]
"""Axes that test-time augmentation flips; the first orientation is the picture as it is."""


def class_probability(logits: Tensor) -> Tensor:
    """Probabilities (N, K, H, W) float32 from logits: softmax over K channels, or for one channel clear and cloud."""
    if logits.shape[1] > 1:
        return logits.float().softmax(dim=1)
    cloud = logits.float().sigmoid()
    return torch.cat([1 - cloud, cloud], dim=1)


def decide(
    probability: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], cloud_classes: Sequence[int], threshold: float
) -> npt.NDArray[np.uint8]:
    """Masks from probabilities: first cloud or not, by the threshold, then the likeliest class of that side.

    Args:
        probability: (N, K, H, W), classes by cloud code.
        valid: (N, H, W), False where there is no data.
        cloud_classes: Which classes are cloud.
        threshold: Cloud where the summed probability of the cloud classes reaches it.

    Returns:
        (N, H, W) uint8 cloud codes, 255 where there is no data.
    """
    other_classes = [index for index in range(probability.shape[1]) if index not in cloud_classes]
    is_cloud = probability[:, cloud_classes].sum(axis=1) >= threshold
    mask = np.where(is_cloud, _likeliest(probability, cloud_classes), _likeliest(probability, other_classes))
    return np.where(valid, mask, np.uint8(UNLABELLED))


def _likeliest(probability: npt.NDArray[np.float32], classes: Sequence[int]) -> npt.NDArray[np.uint8] | np.uint8:
    """The likeliest of some classes, (N, H, W); for a single class that class, without a look at the pixels."""
    if len(classes) == 1:
        return np.uint8(classes[0])
    likeliest: npt.NDArray[np.uint8] = np.array(classes, np.uint8)[probability[:, list(classes)].argmax(axis=1)]
    return likeliest
