"""Predictor of coverage classes from raw digital numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from cloud_assets.errors import InvalidModel
from cloud_assets.families.classification.recipe import ClassificationSection
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import Predictor, check_input
from cloud_assets.networks.classifiers import class_probability
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.cutting import resize

REFUSED = 255  # class of a patch with too few valid pixels to tell


class ClassificationPredictor(Predictor):
    """Runs a classifier of whole patches."""

    gpu_batch = 32

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        card = bundle.card
        self._section = ClassificationSection.of(card)
        if not isinstance(card.network, Classifier):
            raise InvalidModel(f"{card.task}/{card.variant} is a {card.network.architecture}: give a classifier.")
        self._head = card.network.head
        super().__init__(bundle, device, network)

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Classifies patches of any height and width; see :meth:`Predictor.predict`.

        Returns:
            ``class`` (N,) uint8, numbers of the card's classes, 255 where too few pixels are valid;
            ``class_probability`` (N, K) float32, NaN there; ``valid_fraction`` (N,) float32.
        """
        pixels, valid = self.card.preprocessing(check_input(dn, self.card))
        share = valid.mean(axis=(1, 2), dtype=np.float32)
        probability = self._in_batches(
            self._fitted(pixels, valid),
            lambda batch: class_probability(self._network(batch), self._head),
            (len(self.card.classes),),
        )
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


def fit_size(image: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.float32]:
    """Brings one preprocessed picture (C, H, W) to the network's size; nodata does not bleed into valid pixels."""
    return image if image.shape[1:] == (size, size) else resize(image, valid, (size, size), 0.0)


def decide(probability: npt.NDArray[np.float32], head: str) -> npt.NDArray[np.int64]:
    """Classes (N,) from probabilities (N, K): the likeliest one of a ``categorical`` head.

    Of an ``ordinal`` head, whose classes are ordered, the median, which errs least on average.
    """
    median = (probability.cumsum(axis=1) < 0.5).sum(axis=1).clip(max=probability.shape[1] - 1)
    return np.asarray(median if head == "ordinal" else probability.argmax(axis=1), np.int64)
