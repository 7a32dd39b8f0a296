"""Coverage classes from raw digital numbers: the one way in which validation, evaluation, export and serving do it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import autocast, choose_device
from cloud_assets.inference.predictor import check_input
from cloud_assets.inference.process_memory import keep_freed_memory
from cloud_assets.networks.classifiers import class_probability
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.resizing import resize

if TYPE_CHECKING:
    from cloud_assets.inference.card import ModelCard

REFUSED = 255
"""Class of a patch with too few valid pixels to tell."""
_GPU_BATCH = 32


class ClassificationPredictor:
    """Runs a classifier of whole patches.

    Patches go through the network in batches of a fixed size (one on a processor), so that a patch's answer does not
    depend on which patches it came with.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        network: Runs in place of the bundle's own network, for example an exported form of it.
    """

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        keep_freed_memory()
        self._card = bundle.card
        self._minimum_valid = float(bundle.card.details["minimum_valid"])
        self._size = int(bundle.card.details["input_size"])
        self._head = head_of(bundle.card)
        self._device = choose_device(device)
        network = bundle.network() if network is None else network
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def card(self) -> "ModelCard":
        """The card of the model."""
        return self._card

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Classifies patches of any height and width.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            ``class`` (N,) uint8, numbers of the card's classes, 255 where too few pixels are valid;
            ``class_probability`` (N, K) float32, NaN there; ``valid_fraction`` (N,) float32.

        Raises:
            InvalidData: If the shape does not fit the card.
        """
        pixels, valid = self.network_input(dn)
        probability = self._class_probability(pixels)
        refused = valid < max(self._minimum_valid, 1e-9)
        probability[refused] = np.nan
        classes = np.where(refused, REFUSED, decide(np.nan_to_num(probability), self._head)).astype(np.uint8)
        return {"class": classes, "class_probability": probability, "valid_fraction": valid}

    def network_input(self, dn: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What the network is given for some patches, for example to calibrate another form of it.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            (N, C, size, size) float32, normalised, 0 without data; and (N,) float32, the share of valid pixels.
        """
        pixels, valid = self._card.preprocessing(check_input(dn, self._card))
        fitted = [fit_size(image, there, self._size) for image, there in zip(pixels, valid, strict=True)]
        shape = (0, dn.shape[1], self._size, self._size)
        images = np.stack(fitted) if fitted else np.empty(shape, np.float32)
        return images, valid.mean(axis=(1, 2), dtype=np.float32)

    def _class_probability(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        size = 1 if self._device.type == "cpu" else _GPU_BATCH
        results = [np.empty((0, len(self._card.classes)), np.float32)]
        with torch.inference_mode(), autocast("auto", self._device):
            for start in range(0, len(pixels), size):
                chunk = pixels[start : start + size]
                rows = np.arange(size) % len(chunk)  # a last, shorter batch is filled up: same size, same arithmetic
                batch = torch.from_numpy(chunk[rows]).to(self._device, memory_format=torch.channels_last)
                results.append(class_probability(self._network(batch), self._head)[: len(chunk)].cpu().numpy())
        return np.concatenate(results)


def fit_size(image: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.float32]:
    """Brings one preprocessed picture (C, H, W) to the network's size; nodata does not bleed into valid pixels."""
    return image if image.shape[1:] == (size, size) else resize(image, valid, (size, size), 0.0)


def decide(probability: npt.NDArray[np.float32], head: str) -> npt.NDArray[np.int64]:
    """Classes from probabilities: the likeliest one, or for ordered classes the median, which errs least on average.

    Args:
        probability: (N, K).
        head: ``categorical`` or ``ordinal``.

    Returns:
        (N,) class numbers.
    """
    median = (probability.cumsum(axis=1) < 0.5).sum(axis=1).clip(max=probability.shape[1] - 1)
    return np.asarray(median if head == "ordinal" else probability.argmax(axis=1), np.int64)


def head_of(card: "ModelCard") -> str:
    """Kind of the classifier's head."""
    if not isinstance(card.network, Classifier):
        raise TypeError(f"{card.task}/{card.variant} is no classifier but a {card.network.architecture}.")
    return card.network.head
