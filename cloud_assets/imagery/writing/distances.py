"""Bounded distances to the marked pixels of a mask."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def grow(spots: npt.NDArray[np.bool_], radius: float) -> npt.NDArray[np.bool_]:
    """Enlarges spots by a disc, exactly in Euclidean distance.

    Args:
        spots: (H, W).
        radius: Pixels.

    Returns:
        (H, W), True within ``radius`` of a spot.
    """
    reach = math.floor(radius)
    if reach < 1 or not spots.any() or spots.all():
        return spots
    sideways = _distance_along_rows(spots, reach)
    grown = np.zeros_like(spots)
    for step in range(min(reach, len(spots) - 1) + 1):
        near = sideways <= math.isqrt(int(radius * radius) - step * step)
        grown[step:] |= near[: len(near) - step]
        grown[: len(near) - step] |= near[step:]
    return grown


def distance_within(spots: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.float32]:
    """Euclidean distance to the nearest spot.

    Args:
        spots: (H, W).
        reach: Pixels up to which distances matter.

    Returns:
        (H, W) pixels, 0 on a spot, infinite where no spot is within ``reach``.
    """
    sideways = _distance_along_rows(spots, reach).astype(np.float32)
    sideways[sideways > reach] = np.inf
    squared = np.square(sideways)
    nearest = squared.copy()
    for step in range(1, min(reach, len(spots) - 1) + 1):
        np.minimum(nearest[step:], squared[:-step] + step * step, out=nearest[step:])
        np.minimum(nearest[:-step], squared[step:] + step * step, out=nearest[:-step])
    distance: npt.NDArray[np.float32] = np.sqrt(nearest)
    distance[distance > reach] = np.inf
    return distance


def _distance_along_rows(spots: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.integer[Any]]:
    """Pixels to the nearest spot in the same row; some number above ``reach`` where there is none near."""
    columns = np.arange(spots.shape[1], dtype=np.int32)
    far = np.int32(spots.shape[1] + reach + 1)
    left = np.maximum.accumulate(np.where(spots, columns, -far), axis=1)
    right = np.minimum.accumulate(np.where(spots, columns, 2 * far)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.minimum(np.minimum(columns - left, right - columns), reach + 1)
    # The comparisons that follow run over as many bytes as this has.
    return nearest.astype(np.uint8) if reach < 255 else nearest
