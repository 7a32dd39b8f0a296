"""Predictor of reflectance from radar."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidData
from cloud_assets.families.translation.recipe import TranslationSection
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import Predictor, check_input, reflect_pad

_FEW_PIXELS = 64  # so few pixels may all be above 0 dB without being linear power: bright roofs are


class TranslationPredictor(Predictor):
    """Runs a translation model.

    Normalisation goes by fixed statistics, those of the training patches, so that a pixel's reflectance depends on its
    surroundings alone and the windows of a large scene agree where they overlap. Arithmetic is single precision: half
    the digits would show as bands in smooth ground. Arguments as for :class:`Predictor`.
    """

    precision = "32"
    is_channels_last = False

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        self.target = TranslationSection.of(bundle.card).target
        """Bands and scaling of the predicted reflectance."""
        super().__init__(bundle, device, network)

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Predicts reflectance; any height and width.

        Args:
            dn: (N, C, H, W) backscatter in decibel, bands in the card's order.

        Returns:
            ``reflectance`` (N, K, H, W) float32, bands of :attr:`target`, NaN where there is no
            radar pixel; of a model with such a head also ``ndvi`` (N, H, W) float32.

        Raises:
            InvalidData: If the shape does not fit the card, or the values are linear power.
        """
        pixels, valid = self._scaled(dn)
        padded = reflect_pad(pixels, self.card.network.size_multiple)
        shape = (self.card.out_channels, *padded.shape[2:])
        scaled = self._in_batches(padded, self._network, shape)[..., : dn.shape[2], : dn.shape[3]]
        bands = len(self.target.bands)
        reflectance = self.target.denormalise(scaled[:, :bands])
        reflectance[np.broadcast_to(~valid[:, None], reflectance.shape)] = np.nan
        answer = {"reflectance": reflectance}
        if scaled.shape[1] > bands:
            answer["ndvi"] = np.where(valid, scaled[:, bands], np.float32(np.nan))
        return answer

    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See :meth:`Predictor.network_input`."""
        return reflect_pad(self._scaled(dn)[0], self.card.network.size_multiple)

    def _scaled(self, dn: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Preprocessed backscatter, and where there is any."""
        finite = check_input(dn, self.card)[np.isfinite(dn)]
        is_decibel = INSTRUMENTS[self.card.preprocessing.instrument].unit == "dB"
        # No place on Earth has only positive values in decibel.
        if is_decibel and finite.size > _FEW_PIXELS and finite.min() >= 0:
            raise InvalidData(
                f"{self.card.task}/{self.card.variant} reads backscatter in decibel; these {finite.size} values lie "
                f"between {finite.min():.3g} and {finite.max():.3g}, so they are linear power. Convert them by "
                "10 * log10 first."
            )
        return self.card.preprocessing(dn)
