"""Anomaly scores from raw digital numbers: the one way in which thresholds, evaluation, scenes and serving get them."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cloud_assets.errors import InvalidModel
from cloud_assets.families.anomaly.scores import METHODS, UNITS
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import autocast, choose_device
from cloud_assets.inference.mirrored_padding import reflect_pad
from cloud_assets.inference.predictor import check_input
from cloud_assets.inference.process_memory import keep_freed_memory
from cloud_assets.networks.autoencoders import Autoencoder
from cloud_assets.patches.resizing import resize

if TYPE_CHECKING:
    from cloud_assets.inference.card import ModelCard


class AnomalyPredictor:
    """Runs an anomaly model.

    Pictures go through the network one at a time, at the size that it was trained on, so that a picture's score does
    not depend on which pictures it came with.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Raises:
        InvalidModel: If the card names a score that there is not.
    """

    def __init__(self, bundle: ModelBundle, device: str = "auto") -> None:
        keep_freed_memory()
        self._card = bundle.card
        self.score: str = bundle.card.details["score"]
        if self.score not in UNITS:
            raise InvalidModel(
                f"{bundle.card.task}/{bundle.card.variant}: there is no score {self.score!r}; there are "
                f"{', '.join(UNITS)}. Install the version of Cloud Assets that wrote the model card."
            )
        self._scores = METHODS[UNITS[self.score].method]
        self._size = int(bundle.card.details["input_size"])
        self._device = choose_device(device)
        self._network = bundle.network().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def card(self) -> "ModelCard":
        """The card of the model."""
        return self._card

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Scores pictures of any height and width.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            ``score`` (N,) float32, NaN without any valid pixel; ``is_anomaly`` (N,) bool, the score at or above the
            card's threshold; ``error_map`` (N, H, W) float32, NaN without data; and each score of the method by its own
            name (N,).

        Raises:
            InvalidData: If the shape does not fit the card.
        """
        pixels, valid = self._card.preprocessing(check_input(dn, self._card))
        names = [name for name, unit in UNITS.items() if METHODS[unit.method] is self._scores]
        scores = {name: np.full(len(dn), np.nan, np.float32) for name in names}
        maps = np.full(valid.shape, np.nan, np.float32)
        for number in np.flatnonzero(valid.any(axis=(1, 2))):
            found, error = self._score(pixels[number], valid[number])
            for name in names:
                scores[name][number] = found[name]
            np.copyto(maps[number], error, where=valid[number])
        threshold = np.inf if self._card.threshold is None else self._card.threshold.value
        score = scores[self.score]
        return {"score": score, "is_anomaly": np.nan_to_num(score) >= threshold, "error_map": maps, **scores}

    def reconstruct(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
        """What the network makes of pictures.

        Args:
            dn: (N, C, H, W) raw digital numbers.

        Returns:
            (N, C, size, size) in the scale of the preprocessing; None for networks that do not reconstruct.
        """
        if not isinstance(self._network, Autoencoder):
            return None
        pixels, valid = self._card.preprocessing(check_input(dn, self._card))
        made = []
        with torch.inference_mode(), autocast("auto", self._device):
            for picture, there in zip(pixels, valid, strict=True):
                image, _, size = self._input(picture, there)
                made.append(self._network(image)[0, :, :size, :size].float().cpu().numpy())
        return np.stack(made)

    def latent(self, dn: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
        """The latent maps (1, L, h, w) of one picture (1, C, H, W), and which pixels of the input are valid."""
        pixels, valid = self._card.preprocessing(check_input(dn, self._card))
        image, there, _ = self._input(pixels[0], valid[0])
        with torch.inference_mode(), autocast("auto", self._device):
            encoded: Tensor = self._network.encode(image).float().cpu()
        return encoded, there.cpu()

    def _score(
        self, picture: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
    ) -> tuple[dict[str, float], npt.NDArray[np.float32]]:
        """Scores of one picture by name, and the map of the one that decides."""
        image, there, size = self._input(picture, valid)
        with torch.inference_mode(), autocast("auto", self._device):
            scores = self._scores(self._network, image, there, self._card.details)
        error = scores[self.score].error_map[0, :size, :size].float().cpu().numpy()
        if error.shape != valid.shape:
            error = resize(error[None], np.ones(error.shape, bool), valid.shape, 0.0)[0]
        return {name: float(score.score[0]) for name, score in scores.items()}, error

    def _input(self, picture: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor, int]:
        """One picture as the network takes it, (1, C, h, w), its valid pixels, and the edge of what is no padding."""
        size = self._size
        if valid.shape != (size, size):
            picture = resize(picture, valid, (size, size), 0.0)
            valid = resize(valid[None].astype(np.float32), np.ones(valid.shape, bool), (size, size), 0.0)[0] >= 0.5
        multiple = self._card.network.size_multiple
        image = torch.from_numpy(reflect_pad(picture[None], multiple))
        padding = image.shape[-1] - size
        there = torch.from_numpy(np.pad(valid, ((0, padding), (0, padding))))[None]
        return image.to(self._device, memory_format=torch.channels_last), there.to(self._device), size
