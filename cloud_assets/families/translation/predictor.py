"""Reflectance from radar: the one way in which validation, evaluation, scenes and serving run a translation model."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidData
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.card import ModelCard
from cloud_assets.inference.device import choose_device
from cloud_assets.inference.mirrored_padding import reflect_pad
from cloud_assets.inference.predictor import check_input
from cloud_assets.inference.process_memory import keep_freed_memory
from cloud_assets.networks.normalisation import fix_statistics
from cloud_assets.patches.preprocessing import Preprocessing

_GPU_BATCH = 8
_FEW_PIXELS = 64
"""So few pixels may all be above 0 dB without being linear power: bright roofs are."""


class TranslationPredictor:
    """Runs a translation model.

    Normalisation goes by fixed statistics, those of the training patches, so that a pixel's reflectance depends on its
    surroundings alone and the windows of a large scene agree where they overlap. Arithmetic is single precision: half
    the digits would show as bands in smooth ground.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
    """

    def __init__(self, bundle: ModelBundle, device: str = "auto") -> None:
        keep_freed_memory()
        self._card = bundle.card
        self._target = target_of(bundle.card)
        self._device = choose_device(device)
        self._network = bundle.network().to(self._device)

    @property
    def card(self) -> ModelCard:
        """The card of the model."""
        return self._card

    @property
    def target(self) -> Preprocessing:
        """Bands and scaling of the predicted reflectance."""
        return self._target

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Predicts reflectance; any height and width.

        Args:
            dn: (N, C, H, W) backscatter in decibel, bands in the card's order.

        Returns:
            ``reflectance`` (N, K, H, W) float32, bands of the card's ``details["target"]``, NaN where there is no
            radar pixel; of a model with such a head also ``ndvi`` (N, H, W) float32.

        Raises:
            InvalidData: If the shape does not fit the card, or the values are linear power.
        """
        dn = check_input(dn, self._card)
        check_decibel(dn, self._card)
        pixels, valid = self._card.preprocessing(dn)
        scaled = self._run(reflect_pad(pixels, self._card.network.size_multiple))[..., : dn.shape[2], : dn.shape[3]]
        bands = len(self._target.bands)
        reflectance = self._target.denormalise(scaled[:, :bands])
        reflectance[np.broadcast_to(~valid[:, None], reflectance.shape)] = np.nan
        answer = {"reflectance": reflectance}
        if scaled.shape[1] > bands:
            answer["ndvi"] = np.where(valid, scaled[:, bands], np.float32(np.nan))
        return answer

    def fitted_to(self, samples: Iterable[npt.NDArray[Any]]) -> Self:
        """Takes the statistics of normalisation from samples of one scene instead of from the training patches.

        For scenes unlike those of the training; all windows of the scene still agree with each other.

        Args:
            samples: Windows (N, C, H, W) in decibel, spread over the scene.

        Returns:
            This predictor, changed.
        """
        multiple = self._card.network.size_multiple
        pixels = (reflect_pad(self._card.preprocessing(check_input(dn, self._card))[0], multiple) for dn in samples)
        fix_statistics(self._network, (torch.from_numpy(batch).to(self._device) for batch in pixels))
        return self

    def _run(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) preprocessed -> (N, K, H, W) on the network's scale."""
        size = 1 if self._device.type == "cpu" else _GPU_BATCH
        results = [np.empty((0, self._card.out_channels, *pixels.shape[2:]), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(pixels), size):
                chunk = pixels[start : start + size]
                rows = np.arange(size) % len(chunk)  # a last, shorter batch is filled up: same size, same arithmetic
                made = self._network(torch.from_numpy(chunk[rows]).to(self._device))
                results.append(made[: len(chunk)].cpu().numpy())
        return np.concatenate(results)


def target_of(card: ModelCard) -> Preprocessing:
    """Bands and scaling of what a translation model predicts."""
    return Preprocessing.model_validate(card.details["target"])


def check_decibel(dn: npt.NDArray[Any], card: ModelCard) -> None:
    """Refuses linear power where a model reads decibel.

    Args:
        dn: (N, C, H, W).
        card: The model's card.

    Raises:
        InvalidData: If every finite value is positive, which no place on Earth is in decibel.
    """
    if INSTRUMENTS[card.preprocessing.instrument].unit != "dB":
        return
    finite = dn[np.isfinite(dn)]
    if finite.size > _FEW_PIXELS and finite.min() >= 0:
        raise InvalidData(
            f"{card.task}/{card.variant} reads backscatter in decibel; these {finite.size} values lie between "
            f"{finite.min():.3g} and {finite.max():.3g}, so they are linear power. Convert them by 10 * log10 first."
        )
