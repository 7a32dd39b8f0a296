"""Detection of the zero padding of patches that were padded to a rounder size."""

import numpy as np

from cloud_assets.datasets.rasters import RasterHeader, Window, read_bands


def unpadded_window(path: str, header: RasterHeader, real_size: int) -> Window | None:
    """Finds the part of a padded raster that holds data.

    The publications disagree about the side of the padding, so the edges themselves are asked.

    Returns:
        (first column, first row, width, height), or None if nothing was padded or the data reach into the padding.
    """
    indexes = range(1, header.count + 1)

    def first_at(length: int, vertical: bool) -> int | None:
        """First row or column of the real image."""
        pad = length - real_size
        if pad <= 0:
            return 0 if pad == 0 else None
        other = header.width if vertical else header.height

        def filled(start: int) -> list[int]:
            window = (0, start, other, pad) if vertical else (start, 0, pad, other)
            values = read_bands(path, indexes, window, 0)
            lines = values.any(axis=(0, 2) if vertical else (0, 1))
            return [start + int(line) for line in np.flatnonzero(lines)]

        before, after = filled(0), filled(length - pad)
        earliest = max(after) - real_size + 1 if after else 0
        latest = min(before) if before else pad
        return max(earliest, 0) if max(earliest, 0) <= latest else None

    row, column = first_at(header.height, vertical=True), first_at(header.width, vertical=False)
    if row is None or column is None or (header.height == real_size and header.width == real_size):
        return None
    return column, row, real_size, real_size
