"""Losses of translation models; pixels without data take no part. Which ones count, the weights of the recipe say."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cloud_assets.bands import vegetation_positions
from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.translation.recipe import Translation
from cloud_assets.patches.preprocessing import Preprocessing

_SMALL = 1e-6


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of (N, C, H, W) values over the valid (N, 1, H, W) pixels; 0 without any."""
    weight = valid.expand_as(values).to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1)


def absolute_distance(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference of (N, C, H, W)."""
    return mean_where((made - truth).abs(), valid)


def squared_distance(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of (N, C, H, W)."""
    return mean_where((made - truth).square(), valid)


def least_squares(verdict: Tensor, is_real: bool) -> Tensor:
    """Squared distance of a discriminator's verdicts from 1 (real) or 0 (made), Mao et al. 2017, arXiv:1611.04076."""
    return (verdict.float() - float(is_real)).square().mean()


def feature_distance(made: Sequence[Tensor], true: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of a discriminator's features, over its layers (Wang et al. 2018, arXiv:1711.11585)."""
    return torch.stack(
        [(own.float() - other.float()).abs().mean() for own, other in zip(made, true, strict=True)]
    ).mean()


def spectral_angle(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean of 1 - cosine of the angle between spectra: indifferent to brightness, strict on colour.

    Args:
        made: (N, C, H, W) reflectance.
        truth: The same.
        valid: (N, 1, H, W).
    """
    cosine = torch.nn.functional.cosine_similarity(made.float(), truth.float(), dim=1, eps=_SMALL)
    return mean_where(1 - cosine[:, None], valid)


def frequency_distance(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of Fourier amplitudes: each frequency counts alike.

    L1 alone is satisfied by smooth pictures, since high frequencies hold little of the energy (Jiang et al. 2021,
    arXiv:2012.12821).

    Args:
        made: (N, C, H, W).
        truth: The same.
        valid: (N, 1, H, W); elsewhere both count as 0.
    """
    amplitudes = [
        torch.log1p(torch.fft.rfft2(picture.float() * valid, norm="ortho").abs() / 0.05) for picture in (made, truth)
    ]
    return (amplitudes[0] - amplitudes[1]).abs().mean()


def vegetation_index(red: Tensor, near_infrared: Tensor) -> Tensor:
    """NDVI, -1 to 1, of reflectances of any shape."""
    return (near_infrared - red) / (near_infrared + red).clamp_min(1e-3)


@dataclass
class Translated:
    """A batch and what the generators made of it; all (N, …, H, W), scaled to [-1, 1]."""

    radar: Tensor
    """True radar pictures."""
    seen: Tensor
    """(N, 1, H, W), their validity."""
    optical: Tensor
    """True optical pictures."""
    observed: Tensor
    """(N, 1, H, W), their validity."""
    made: Tensor
    """Optical pictures made of the radar pictures."""
    ndvi: Tensor
    """(N, 1 or 0, H, W), NDVI predicted beside them."""
    radar_back: Tensor | None = None
    """Radar pictures made of ``made``."""
    radar_made: Tensor | None = None
    """Radar pictures made of the optical pictures."""
    optical_back: Tensor | None = None
    """Optical pictures made of ``radar_made``."""
    optical_same: Tensor | None = None
    """What the radar-to-optical generator makes of optical pictures."""
    radar_same: Tensor | None = None
    """What the optical-to-radar generator makes of radar pictures."""

    def judged(self, name: str, conditional: bool) -> tuple[Tensor, Tensor]:
        """True and made pictures that a discriminator tells apart.

        Args:
            name: ``optical`` or ``radar``.
            conditional: Whether the optical pictures are shown together with the radar pictures.
        """
        if name == "radar":
            assert self.radar_made is not None  # noqa: S101 there is no such discriminator without a cycle
            return self.radar, self.radar_made
        if conditional:
            return torch.cat([self.radar, self.optical], dim=1), torch.cat([self.radar, self.made], dim=1)
        return self.optical, self.made


class GeneratorLosses:
    """Computes the parts of the loss and their weighted sum.

    Raises:
        InvalidRecipe: If NDVI is asked for without red and near infrared.
    """

    def __init__(self, recipe: Translation, target: Preprocessing) -> None:
        self._recipe = recipe
        self._clip = target.clip
        weights = recipe.loss
        self._weights = weights.model_dump()
        self._weights |= {"identity": weights.cycle * weights.identity}
        self._red_and_infrared = (0, 0)
        if weights.ndvi:
            channels = vegetation_positions(target.profile, target.bands)
            if channels is None:
                raise InvalidRecipe(f"NDVI needs the bands red and nir; the recipe makes {', '.join(target.bands)}.")
            self._red_and_infrared = channels

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the parts."""
        return torch.stack([self._weights[name] * term for name, term in terms.items()]).sum()

    def __call__(self, pictures: Translated, discriminators: nn.ModuleDict) -> dict[str, Tensor]:
        """The parts of the loss by the names of their weights, each not weighted yet."""
        weights = self._recipe.loss
        terms: dict[str, Tensor] = {}
        if weights.adversarial:
            self._adversarial(terms, pictures, discriminators)
        if pictures.radar_back is not None and pictures.optical_back is not None:
            terms["cycle"] = absolute_distance(pictures.radar_back, pictures.radar, pictures.seen) + absolute_distance(
                pictures.optical_back, pictures.optical, pictures.observed
            )
        if pictures.optical_same is not None and pictures.radar_same is not None:
            terms["identity"] = absolute_distance(
                pictures.optical_same, pictures.optical, pictures.observed
            ) + absolute_distance(pictures.radar_same, pictures.radar, pictures.seen)
        if weights.paired_l1:
            terms["paired_l1"] = absolute_distance(pictures.made, pictures.optical, pictures.observed)
        if weights.paired_l2:
            terms["paired_l2"] = squared_distance(pictures.made, pictures.optical, pictures.observed)
        if weights.ndvi:
            red, infrared = (self._reflectance(pictures.optical)[:, [band]] for band in self._red_and_infrared)
            error = (pictures.ndvi - vegetation_index(red, infrared)).abs()
            terms["ndvi"] = mean_where(error, pictures.observed)
        self._comparisons(terms, pictures)
        return terms

    def _adversarial(self, terms: dict[str, Tensor], pictures: Translated, discriminators: nn.ModuleDict) -> None:
        verdicts = []
        for name, discriminator in discriminators.items():
            true, made = pictures.judged(name, self._recipe.conditional)
            verdict, features = discriminator(made)
            verdicts.append(least_squares(verdict, True))
            if self._recipe.loss.perceptual and name == "optical":
                with torch.no_grad():
                    _, wanted = discriminator(true)
                terms["perceptual"] = feature_distance(features, wanted)
        terms["adversarial"] = torch.stack(verdicts).sum()

    def _comparisons(self, terms: dict[str, Tensor], pictures: Translated) -> None:
        """Spectrum and frequencies, of all pictures that have a true one to be compared with."""
        compared = [pictures.made] if self._recipe.pairing == "paired" else []
        compared += [] if pictures.optical_back is None else [pictures.optical_back]
        if not compared:
            return
        if self._recipe.loss.spectral:
            true = self._reflectance(pictures.optical)
            angles = [spectral_angle(self._reflectance(picture), true, pictures.observed) for picture in compared]
            terms["spectral"] = torch.stack(angles).sum()
        if self._recipe.loss.frequency:
            distances = [frequency_distance(picture, pictures.optical, pictures.observed) for picture in compared]
            terms["frequency"] = torch.stack(distances).sum()

    def _reflectance(self, scaled: Tensor) -> Tensor:
        return (scaled.float() + 1) * ((self._clip[1] - self._clip[0]) / 2) + self._clip[0]
