"""Anomaly scores, one number a picture and one a pixel, by several methods."""

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from cloud_assets.families.anomaly.recipe import AnomalySection, LatentReference
from cloud_assets.networks.autoencoders import Autoencoder
from cloud_assets.networks.likeness import LikenessNetwork

_SMALLEST_WINDOW = 11  # edge of the window of structural similarity, pixels
RECONSTRUCTION: Final[Mapping[str, str]] = {
    "rmse": "root mean square error of the reconstruction, scaled reflectance 0…1",
    "mae": "mean absolute error of the reconstruction, scaled reflectance 0…1",
    "dissimilarity": "structural dissimilarity (1 - SSIM) / 2, data range 1",
    "latent_distance": "distance of the latent code from normal ones, deviations",
}
DISCRIMINATION: Final[Mapping[str, str]] = {
    "cloud_likeness": "mean likeness to simulated cloud of the most anomalous pixels"
}
LIKENESS: Final[Mapping[str, str]] = {"white_smoothness": "deviations that bands are more alike and smooth than usual"}
UNITS: Final[Mapping[str, str]] = {**RECONSTRUCTION, **DISCRIMINATION, **LIKENESS}
"""Every score there is, by the name that a model card gives, and what its numbers are."""


class Score(NamedTuple):
    """One method's answer to N pictures: ``error_map`` is of the score's unit, 0 without data."""

    score: Tensor  # (N,) float32; more is more anomalous
    error_map: Tensor  # (N, H, W) float32


def reconstruction_scores(
    network: nn.Module, images: Tensor, valid: Tensor, section: AnomalySection
) -> dict[str, Score]:
    """Scores by how badly an :class:`Autoencoder` reproduces pictures, and how unusual its latent code is.

    ``images`` are (N, C, H, W) in [0, 1], 0 without data; ``valid`` is (N, H, W) bool.

    Returns:
        ``rmse``, ``mae``, ``dissimilarity`` (https://doi.org/10.1109/TIP.2003.819861), ``latent_distance``.
    """
    autoencoder = cast("Autoencoder", network)
    latent = autoencoder.encode(images)
    # What is not there counts as reproduced.
    reconstruction = torch.where(valid.unsqueeze(1), autoencoder.decoder(latent).float(), images)
    difference = reconstruction - images
    squares, magnitudes = difference.square().mean(dim=1), difference.abs().mean(dim=1)
    dissimilarity = _dissimilarity(reconstruction, images) * valid
    return {
        "rmse": Score(_mean(squares, valid).sqrt(), squares.sqrt()),
        "mae": Score(_mean(magnitudes, valid), magnitudes),
        "dissimilarity": Score(_mean(dissimilarity, valid), dissimilarity),
        "latent_distance": _latent_distance(latent.float(), valid, section.latent or LatentReference()),
    }


def discrimination_scores(
    network: nn.Module, images: Tensor, valid: Tensor, section: AnomalySection
) -> dict[str, Score]:
    """``cloud_likeness``: what a network that was taught with synthetic anomalies takes for one.

    The network makes one logit a pixel of ``images`` (N, C, H, W), 0 without data; ``valid`` is (N, H, W) bool. The
    section's ``top_share`` of the valid pixels are the most anomalous ones, whose mean is the score.
    """
    likeness = network(images)[:, 0].float().sigmoid() * valid
    share = section.top_share or 1.0
    scores = []
    for values, there in zip(likeness, valid, strict=True):
        count = max(1, math.ceil(share * int(there.sum())))
        scores.append(values[there].topk(count).values.mean() if there.any() else values.new_zeros(()))
    return {"cloud_likeness": Score(torch.stack(scores), likeness)}


def likeness_scores(network: nn.Module, images: Tensor, valid: Tensor, section: AnomalySection) -> dict[str, Score]:
    """``white_smoothness`` of standardised pictures; the map shows where all bands are bright together."""
    likeness = cast("LikenessNetwork", network)
    local = likeness.measure(images).local[:, None]
    error_map = F.interpolate(local, size=images.shape[-2:], mode="bilinear")[:, 0] * valid
    return {"white_smoothness": Score(likeness(images).sum(dim=1), error_map)}


SCORERS: Final[Mapping[str, tuple[Callable[..., dict[str, Score]], Mapping[str, str]]]] = {
    **dict.fromkeys(RECONSTRUCTION, (reconstruction_scores, RECONSTRUCTION)),
    **dict.fromkeys(DISCRIMINATION, (discrimination_scores, DISCRIMINATION)),
    **dict.fromkeys(LIKENESS, (likeness_scores, LIKENESS)),
}
"""By the score that decides: what makes it, and all scores that it makes."""


def pooled(latent: Tensor, valid: Tensor) -> Tensor:
    """Mean latent code (N, L) of latent maps (N, L, h, w) over the valid part (N, H, W) of pictures."""
    weight = F.interpolate(valid.unsqueeze(1).float(), size=latent.shape[-2:], mode="area")
    return (latent * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp_min(1e-6)


def latent_reference(codes: Tensor) -> LatentReference:
    """What is usual among pooled latent codes (N, L) of normal pictures; a floor keeps dead ones from counting."""
    deviation = codes.std(dim=0, correction=0)
    floor = max(0.05 * float(deviation.max()), 1e-6)
    return LatentReference(mean=codes.mean(dim=0).tolist(), std=deviation.clamp_min(floor).tolist())


def _latent_distance(latent: Tensor, valid: Tensor, reference: LatentReference) -> Score:
    mean, std = (torch.tensor(values, device=latent.device) for values in (reference.mean, reference.std))
    score = ((pooled(latent, valid) - mean) / std).square().mean(dim=1).sqrt()
    local = ((latent - mean[:, None, None]) / std[:, None, None]).square().mean(dim=1, keepdim=True).sqrt()
    size = (valid.shape[-2], valid.shape[-1])
    return Score(score, F.interpolate(local, size=size, mode="bilinear")[:, 0] * valid)


def _dissimilarity(reconstruction: Tensor, images: Tensor) -> Tensor:
    """(N, H, W) in [0, 1]; pictures smaller than the window are padded by their last pixels."""
    size = images.shape[-2:]
    margins = [max(0, _SMALLEST_WINDOW - length) for length in size]
    padded = [F.pad(picture, (0, margins[1], 0, margins[0]), mode="replicate") for picture in (reconstruction, images)]
    with torch.autocast(images.device.type, enabled=False):  # variances are differences of nearly equal numbers
        _, full = structural_similarity_index_measure(
            padded[0].clamp(0, 1), padded[1].clamp(0, 1), data_range=1.0, reduction="none", return_full_image=True
        )
    similarity: Tensor = full.mean(dim=1)[:, : size[0], : size[1]]
    return (1 - similarity).clamp(0, 2) / 2


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """(N,) mean over the valid pixels; 0 where there is none."""
    return (values * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
