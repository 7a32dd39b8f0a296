"""Usable pixels of a scene: clear, observed, and far enough from clouds and shadows."""

import math

import numpy as np

from cloud_assets.bands import CLEAR
from cloud_assets.imagery.writing.distances import grow
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm

VALID = 1
INVALID = 0
VALIDITY_FORM = RasterForm(
    dtype="uint8",
    bands=("usable pixels",),
    classes={INVALID: "not usable", VALID: "usable"},
    colours={INVALID: (60, 60, 60, 255), VALID: (90, 180, 120, 255)},
)


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
