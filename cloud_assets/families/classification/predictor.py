"""Predictor of coverage classes from raw digital numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cloud_assets.errors import InvalidModel
from cloud_assets.families.classification.card_section import ClassificationSection
from cloud_assets.inference.bundle import ModelBundle, ModelCard
from cloud_assets.inference.predictor import Predictor, check_input
from cloud_assets.networks.classifiers import class_probability
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.resizing import resize

REFUSED = 255
"""Class of a patch with too few valid pixels to tell."""


class ClassificationPredictor(Predictor):
    """Runs a classifier of whole patches.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        network: Runs in place of the bundle's own network, for example an exported form of it.

    Raises:
        InvalidModel: If the card does not describe a classifier, or the weights do not fit it.
    """

    gpu_batch = 32

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        self._section = ClassificationSection.of(bundle.card)
        self._head = head_of(bundle.card)
        super().__init__(bundle, device, network)

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
        pixels, valid = self.card.preprocessing(check_input(dn, self.card))
        share = valid.mean(axis=(1, 2), dtype=np.float32)
        probability = self._in_batches(self._fitted(pixels, valid), self._class_probability, (len(self.card.classes),))
        refused = share < max(self._section.minimum_valid, 1e-9)
        probability[refused] = np.nan
        classes = np.where(refused, REFUSED, decide(np.nan_to_num(probability), self._head)).astype(np.uint8)
        return {"class": classes, "class_probability": probability, "valid_fraction": share}

    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See :meth:`Predictor.network_input`; 0 without data."""
        return self._fitted(*self.card.preprocessing(check_input(dn, self.card)))

    def _fitted(self, pixels: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        size = self._section.input_size
        fitted = [fit_size(image, there, size) for image, there in zip(pixels, valid, strict=True)]
        return np.stack(fitted) if fitted else np.empty((0, pixels.shape[1], size, size), np.float32)

    def _class_probability(self, batch: Tensor) -> Tensor:
        return class_probability(self._network(batch), self._head)


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


def head_of(card: ModelCard) -> str:
    """Kind of the classifier's head."""
    if not isinstance(card.network, Classifier):
        raise InvalidModel(f"{card.task}/{card.variant} is no classifier but a {card.network.architecture}.")
    return card.network.head
