"""The predictor protocol."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidData
from cloud_assets.inference.card import ModelCard


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

    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """What the network is given for some patches.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            (N, channels, height, width), preprocessed.
        """
        ...


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
