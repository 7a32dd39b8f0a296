"""Resizing of images and masks that keeps nodata out of valid pixels."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt


def resize(
    image: npt.NDArray[Any], valid: npt.NDArray[np.bool_], size: tuple[int, int], nodata: float
) -> npt.NDArray[Any]:
    """Resizes an image (C, H, W) linearly, averaging over the source pixels of each target pixel when it shrinks.

    Target pixels most of whose source pixels are not ``valid`` (H, W) become ``nodata``; the data type stays.
    """
    down, right = _weights(image.shape[-2], size[0]), _weights(image.shape[-1], size[1])
    weight = down @ valid.astype(np.float32) @ right.T
    there = weight >= 0.5
    pixels = np.where(valid, image, 0).astype(np.float32)
    resized = down @ pixels @ right.T
    resized /= np.maximum(weight, 1e-6)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        resized = np.clip(np.rint(resized), limits.min, limits.max)
    return np.where(there, resized, nodata).astype(image.dtype)


def resize_codes(codes: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resizes a mask (H, W) to the nearest pixels, because codes cannot be averaged."""
    rows, cols = (
        ((np.arange(target) + 0.5) * (source / target)).astype(int)
        for source, target in zip(codes.shape, size, strict=True)
    )
    return codes[np.ix_(rows, cols)]


@lru_cache(maxsize=32)
def _weights(source: int, target: int) -> npt.NDArray[np.float32]:
    """(target, source) weights of a triangle filter as wide as a target pixel, rows adding up to 1."""
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(source)[None] + 0.5 - centres) / max(scale, 1.0)
    weights = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
