"""Fine texture that several bands share: what tells windblown snow from a featureless cloud of the same colour.

Noise differs from band to band, relief does not: the covariance between bands of what is left of each after its
neighbourhood is taken away is that of real structure, even where it is half as strong as the noise. Networks see it
badly by themselves: it is a thousandth of their input's range, less than their arithmetic of 16 bits resolves.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

TEXTURE_CHANNELS: Final = 2
"""Structure of single pixels, and of blocks of about five."""

_SCALES: Final = ((1, 3, 17), (5, 15, 31))
"""For each channel: side of the means that count as a pixel, of its neighbourhood, of the window of the covariance."""
_FAINTEST, _DECADES = 1e-4, 3
"""Contrast in reflectance that becomes 0, and how many decades above it become 1."""


def fine_texture(reflectance: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Measures the contrast that bands share, at two scales.

    Args:
        reflectance: (…, C, H, W), two bands or more.
        valid: (…, H, W) bool, False without data.

    Returns:
        (…, 2, H, W) float32 in [0, 1], the logarithm of the contrast: 0 for 0.0001 of reflectance or less, 1 for 0.1
        or more; 0 where there are no data or their edge is too near to tell.
    """
    *many, bands, height, width = reflectance.shape
    pictures = reflectance.reshape(-1, bands, height, width)
    flat_valid = valid.reshape(-1, height, width)
    result = np.empty((len(pictures), TEXTURE_CHANNELS, height, width), np.float32)
    for picture, has_data, texture in zip(pictures, flat_valid, result, strict=True):
        for channel, scale in zip(texture, _SCALES, strict=True):
            channel[:] = _shared_contrast(picture.transpose(1, 2, 0), has_data.astype(np.float32), *scale)
    return result.reshape(*many, TEXTURE_CHANNELS, height, width)


def _shared_contrast(
    picture: npt.NDArray[np.float32], has_data: npt.NDArray[np.float32], side: int, neighbourhood: int, window: int
) -> npt.NDArray[np.float32]:
    """One channel (H, W) of a picture (H, W, C)."""
    detail = _mean(picture, side) - _mean(picture, neighbourhood)
    # The mean of products of different bands, from the square of their sum.
    count = detail.shape[-1]
    covariance = (np.square(detail.sum(axis=-1)) - np.square(detail).sum(axis=-1)) / (count * (count - 1))
    if not has_data.all():
        inner = (_mean(has_data, neighbourhood) > 1 - 1e-4).astype(np.float32)
        covariance = _mean(covariance * inner, window) / np.maximum(_mean(inner, window), np.float32(1e-4))
        covariance *= has_data
    else:
        covariance = _mean(covariance, window)
    contrast = np.sqrt(np.maximum(covariance, np.float32(_FAINTEST**2)))
    logarithm: npt.NDArray[np.float32] = np.log10(contrast * np.float32(1 / _FAINTEST)) * np.float32(1 / _DECADES)
    return np.minimum(logarithm, np.float32(1))


def _mean(array: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Means over squares of (H, W) or (H, W, C), mirrored at the border."""
    if side == 1:
        return array
    import cv2

    return np.asarray(cv2.blur(array, (side, side), borderType=cv2.BORDER_REFLECT_101), np.float32)
