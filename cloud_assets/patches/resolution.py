"""Resampling of patches to another ground sampling distance."""

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]


def change_resolution(
    image: Image,
    mask: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    factor: float,
    corner: tuple[float, float],
) -> tuple[Image, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Shows a patch with larger or smaller pixels, in an array of the same size.

    Args:
        image: (H, W, C) float32; nodata should be filled, lest it bleeds into its edges.
        mask: (H, W) uint8 codes.
        valid: (H, W) bool.
        factor: New pixel size relative to the old one. Above 1 pixels are averaged and the rest of the array is filled
            by mirroring; below 1 a part of the patch is enlarged.
        corner: Where that part lies, two numbers in [0, 1): 0 at the upper or left edge, towards 1 at the other one.

    Returns:
        Image, mask and validity of the same shapes.
    """
    shape = mask.shape
    sides = [max(1, round(length / factor)) if factor > 1 else max(1, round(length * factor)) for length in shape]
    if factor > 1:
        small = resize_bands(image, (sides[0], sides[1]), cv2.INTER_AREA)
        rows, columns = (_mirrored(side, length) for side, length in zip(sides, shape, strict=True))
        nearest = [
            np.minimum((np.arange(s) + 0.5) * (n / s), n - 1).astype(int) for s, n in zip(sides, shape, strict=True)
        ]
        where = np.ix_(nearest[0][rows], nearest[1][columns])
        return small[rows][:, columns], mask[where], valid[where]
    first = [int(share * (n - s + 1)) for share, s, n in zip(corner, sides, shape, strict=True)]
    window = (slice(first[0], first[0] + sides[0]), slice(first[1], first[1] + sides[1]))
    nearest = [f + np.arange(n) * s // n for f, s, n in zip(first, sides, shape, strict=True)]
    where = np.ix_(*nearest)
    large = resize_bands(np.ascontiguousarray(image[window]), (shape[0], shape[1]), cv2.INTER_LINEAR)
    return large, mask[where], valid[where]


def resize_bands(image: Image, size: tuple[int, int], interpolation: int) -> Image:
    """Resizes (H, W, C) of any number of bands to (height, width); OpenCV takes at most four at once."""
    parts = [
        np.atleast_3d(cv2.resize(image[..., first : first + 4], size[::-1], interpolation=interpolation))
        for first in range(0, image.shape[2], 4)
    ]
    return np.concatenate(parts, axis=2)


def _mirrored(side: int, length: int) -> npt.NDArray[np.int64]:
    """Indices that run back and forth over ``side`` elements until there are ``length`` of them."""
    place = np.arange(length) % (2 * side)
    return np.where(place < side, place, 2 * side - 1 - place)
