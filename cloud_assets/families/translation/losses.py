"""Parts of the loss of translation models; pixels without data take no part."""

from collections.abc import Sequence

import torch
from torch import Tensor

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
