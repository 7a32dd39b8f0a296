"""Predictor of anomaly scores from raw digital numbers."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.families.anomaly.recipe import AnomalySection
from cloud_assets.families.anomaly.scores import SCORERS
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import autocast
from cloud_assets.inference.predictor import Predictor, check_input, reflect_pad
from cloud_assets.networks.autoencoders import Autoencoder
from cloud_assets.patches.cutting import resize


class AnomalyPredictor(Predictor):
    """Runs an anomaly model; pictures go through the network one at a time, at the size that it was trained on."""

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        self._section = AnomalySection.of(bundle.card)
        super().__init__(bundle, device, network)
        self.score: str = self._section.score
        """Name of the score that decides."""

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Scores pictures of any height and width; see :meth:`Predictor.predict`.

        Returns:
            ``score`` (N,) float32, NaN without any valid pixel; ``is_anomaly`` (N,) bool, the score at or above the
            card's threshold; ``error_map`` (N, H, W) float32, NaN without data; each score of the method by name (N,).
        """
        pixels, valid = self.card.preprocessing.to_physical(check_input(dn, self.card))
        scored, names = SCORERS[self.score]
        scores = {name: np.full(len(dn), np.nan, np.float32) for name in names}
        maps = np.full(valid.shape, np.nan, np.float32)
        for number in np.flatnonzero(valid.any(axis=(1, 2))):
            image, there, size = self._input(pixels[number], valid[number])
            with torch.inference_mode(), autocast("auto", self._device):
                found = scored(self._network, image, there, self._section)
            error = found[self.score].error_map[0, :size, :size].float().cpu().numpy()
            if error.shape != valid.shape[1:]:
                error = resize(error[None], np.ones(error.shape, bool), valid.shape[1:], 0.0)[0]
            np.copyto(maps[number], error, where=valid[number])
            for name in names:
                scores[name][number] = float(found[name].score[0])
        threshold = np.inf if self.card.threshold is None else self.card.threshold.value
        score = scores[self.score]
        return {"score": score, "is_anomaly": np.nan_to_num(score) >= threshold, "error_map": maps, **scores}

    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See :meth:`Predictor.network_input`; 0 without data."""
        pixels, valid = self.card.preprocessing.to_physical(check_input(dn, self.card))
        return np.concatenate([self._input(*one)[0].cpu().numpy() for one in zip(pixels, valid, strict=True)])

    def reconstruct(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
        """What the network makes of pictures (N, C, H, W), raw digital numbers.

        Returns:
            (N, C, size, size) in the scale of the preprocessing; None for networks that do not reconstruct.
        """
        if not isinstance(self._network, Autoencoder):
            return None
        made = []
        with torch.inference_mode(), autocast("auto", self._device):
            for one in zip(*self.card.preprocessing.to_physical(check_input(dn, self.card)), strict=True):
                image, _, size = self._input(*one)
                made.append(self._network(image)[0, :, :size, :size].float().cpu().numpy())
        return np.stack(made)

    def latent(self, dn: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
        """The latent maps (1, L, h, w) of one picture (1, C, H, W), and which pixels of the input are valid."""
        pixels, valid = self.card.preprocessing.to_physical(check_input(dn, self.card))
        image, there, _ = self._input(pixels[0], valid[0])
        with torch.inference_mode(), autocast("auto", self._device):
            encoded = cast("Autoencoder", self._network).encode(image).float().cpu()
        return encoded, there.cpu()

    def _input(self, picture: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor, int]:
        """One picture as the network takes it, (1, C, h, w), its valid pixels, and the edge of what is no padding.

        Reduced first and normalised then, as in training: what a picture is standardised by depends on its size.
        """
        size = self._section.input_size
        if valid.shape != (size, size):
            picture = resize(picture, valid, (size, size), 0.0)
            valid = resize(valid[None].astype(np.float32), np.ones(valid.shape, bool), (size, size), 0.0)[0] >= 0.5
        picture = self.card.preprocessing.normalise(picture, valid)
        image = torch.from_numpy(reflect_pad(picture[None], self.card.network.size_multiple))
        padding = image.shape[-1] - size
        there = torch.from_numpy(np.pad(valid, ((0, padding), (0, padding))))[None]
        return image.to(self._device, memory_format=torch.channels_last), there.to(self._device), size
