"""What every predictor offers, and which one runs a model."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidData, InvalidModel
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.card import ModelCard

if TYPE_CHECKING:
    from torch import nn

PREDICTORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "segmentation": "cloud_assets.families.segmentation.predictor:SegmentationPredictor",
        "classification": "cloud_assets.families.classification.predictor:ClassificationPredictor",
        "anomaly": "cloud_assets.families.anomaly.predictor:AnomalyPredictor",
        "translation": "cloud_assets.families.translation.predictor:TranslationPredictor",
    }
)
"""Family of models -> the class that runs them; named, not imported, so that a model loads only what it needs."""


class Predictor(Protocol):
    """From raw digital numbers to a task's answer, as a model card describes it."""

    @property
    def card(self) -> ModelCard:
        """The card of the model."""
        ...

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Answers for some patches.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            The answer's parts by name; the first axis of each is N.
        """
        ...


def load_predictor(bundle: ModelBundle, device: str = "auto", network: "nn.Module | None" = None) -> Predictor:
    """Makes a model ready to predict.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        network: Runs in place of the bundle's own network, for families whose predictor can do that.

    Returns:
        The predictor of the model's family.

    Raises:
        InvalidModel: If nothing here runs models of that family, or the weights do not fit the card.
    """
    name = PREDICTORS.get(bundle.card.family)
    if name is None:
        known = ", ".join(PREDICTORS)
        raise InvalidModel(f"no predictor runs models of the family {bundle.card.family!r}; there are: {known}.")
    module, _, attribute = name.partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    return cast("Predictor", factory(bundle, device) if network is None else factory(bundle, device, network))


def check_input(dn: npt.NDArray[Any], card: ModelCard) -> npt.NDArray[Any]:
    """Checks the shape of raw digital numbers against a card.

    Args:
        dn: Should be (N, C, H, W).
        card: The card of the model.

    Returns:
        The same array.

    Raises:
        InvalidData: If it has another number of axes or bands, or no pixels.
    """
    array = np.asarray(dn)
    if array.ndim != 4 or array.shape[1] != len(card.bands) or 0 in array.shape[2:]:
        raise InvalidData(
            f"{card.task}/{card.variant} takes digital numbers of shape (patches, {len(card.bands)}, height, width), "
            f"bands {', '.join(card.bands)} of {card.preprocessing.instrument}; got {array.shape}."
        )
    return array
