"""Padding of patches by reflection at their edges."""

import numpy as np
import numpy.typing as npt


def reflect_pad(pixels: npt.NDArray[np.float32], multiple: int, border: int = 0) -> npt.NDArray[np.float32]:
    """Mirrors pixels beyond the edges; lower and right far enough that height and width are multiples of a number.

    Args:
        pixels: (N, C, H, W).
        multiple: The number, pixels.
        border: Pixels to add on each side at least.

    Returns:
        (N, C, H', W'); the patch itself begins ``border`` pixels from its upper and left edge.
    """
    margins = [(border, border + -(side + 2 * border) % multiple) for side in pixels.shape[2:]]
    if not np.any(margins):
        return pixels
    return np.pad(pixels, ((0, 0), (0, 0), *margins), mode="reflect")
