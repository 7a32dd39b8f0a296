"""Which pixels can be relied on: clear, observed, and far enough from every cloud and shadow."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR
from cloud_assets.scenes.raster_files import RasterDraft, RasterForm

VALID = 1
INVALID = 0
VALIDITY_FORM = RasterForm(
    dtype="uint8",
    bands=("1 usable, 0 cloud, shadow, their surroundings, or nodata",),
    colours={INVALID: (60, 60, 60, 255), VALID: (90, 180, 120, 255)},
)


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
    for step in range(reach + 1):
        near = sideways <= math.isqrt(int(radius * radius) - step * step)
        grown[step:] |= near[: len(near) - step]
        grown[: len(near) - step] |= near[step:]
    return grown


def write_validity(mask: RasterDraft, validity: RasterDraft, radius: float) -> float:
    """Writes the validity mask of a class mask.

    Args:
        mask: Finished draft of cloud codes, 255 for nodata.
        validity: Draft to write, opened.
        radius: Pixels around clouds and shadows that are invalid too.

    Returns:
        Share of the scene's pixels that are valid.
    """
    usable = 0
    for block, wide, pixels in mask.blocks(halo=math.ceil(radius)):
        codes = pixels[0]
        # Nodata is invalid but does not grow: what lies beside a scene's edge was observed well.
        is_near = grow((codes != CLEAR) & (codes != mask.form.nodata), radius)
        is_valid = ((codes == CLEAR) & ~is_near)[block.row - wide.row :, block.column - wide.column :][
            : block.height, : block.width
        ]
        usable += int(np.count_nonzero(is_valid))
        validity.write(block, is_valid.astype(np.uint8))
    return usable / (mask.grid.height * mask.grid.width)


def _distance_along_rows(spots: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.integer[Any]]:
    """Pixels to the nearest spot in the same row; some number above ``reach`` where there is none near."""
    columns = np.arange(spots.shape[1], dtype=np.int32)
    far = np.int32(spots.shape[1] + reach + 1)
    left = np.maximum.accumulate(np.where(spots, columns, -far), axis=1)
    right = np.minimum.accumulate(np.where(spots, columns, 2 * far)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.minimum(np.minimum(columns - left, right - columns), reach + 1)
    # The comparisons that follow run over as many bytes as this has.
    return nearest.astype(np.uint8) if reach < 255 else nearest
