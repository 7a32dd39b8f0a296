"""Random fields: fractal noise by spectral synthesis, cells, and fast smoothing.

A field with power spectrum f^-slope looks like terrain, vegetation or clouds; slopes of 1 are grainy, 2 to 3 like
broken clouds, above 3 smooth (Voss, 1985, https://doi.org/10.1007/978-3-642-84574-1_34). Fields are periodic, so
``numpy.roll`` moves them without a seam.
"""

from functools import lru_cache

import numpy as np

Shape = tuple[int, int]


@lru_cache(maxsize=16)
def _frequencies(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Vertical and horizontal frequencies in cycles a pixel, (H, 1) and (1, W // 2 + 1)."""
    down = np.fft.fftfreq(shape[0])[:, None].astype(np.float32)
    return down, np.fft.rfftfreq(shape[1])[None].astype(np.float32)


@lru_cache(maxsize=16)
def _log_squared_frequency(shape: Shape) -> np.ndarray:
    down, right = _frequencies(shape)
    squared: np.ndarray = down**2 + right**2
    squared[0, 0] = 1
    np.log(squared, out=squared)
    return squared


def fractal_field(
    rng: np.random.Generator,
    shape: Shape,
    slope: float,
    *,
    outer_scale: float | None = None,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> np.ndarray:
    """Draws a Gaussian random field (H, W) float32 with a power-law spectrum, mean 0 and variance 1.

    Power falls off as frequency to the minus ``slope``; 0 is white noise. Above ``outer_scale`` pixels there is no more
    structure, so that the field consists of blobs of about that size; None: up to the size of the field. Structures are
    ``stretch`` times longer than wide, along ``angle``, radians from the row axis' right end downwards.
    """
    if outer_scale is None and stretch == 1.0:
        exponent = _log_squared_frequency(shape)
    else:
        down, right = _frequencies(shape)
        along = (right * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle))) * np.float32(stretch)
        across = down * np.float32(np.cos(angle)) - right * np.float32(np.sin(angle))
        squared = along**2 + across**2 + np.float32(0 if outer_scale is None else outer_scale**-2)
        squared[0, 0] = 1
        exponent = np.log(squared)
    amplitude = np.exp(exponent * np.float32(-slope / 4))
    amplitude[0, 0] = 0
    spectrum = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    spectrum *= amplitude
    field: np.ndarray = np.fft.irfft2(spectrum, s=shape)
    field *= np.float32(1 / max(float(field.std()), 1e-12))
    return field


def level(field: np.ndarray, share: float) -> float:
    """The value below which about a share of a field lies, from every seventh pixel; at 0 and 1 the extremes."""
    sample = field.ravel()[::7]
    rank = min(int(share * sample.size), sample.size - 1)
    return float(np.partition(sample, rank)[rank])


@lru_cache(maxsize=32)
def _smoothing(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that average over cells, (cells, length), and that spread back with a Gaussian, (length, cells)."""
    positions = (np.arange(length, dtype=np.float32) + 0.5) * (cells / length)
    average = (positions.astype(int)[None] == np.arange(cells)[:, None]).astype(np.float32)
    average /= average.sum(1, keepdims=True)
    distance = positions[:, None] - (np.arange(cells, dtype=np.float32) + 0.5)[None]
    spread = np.exp(-0.5 * (distance / 0.7) ** 2)
    spread /= spread.sum(1, keepdims=True)
    return average, spread


def smooth(field: np.ndarray, scale: float) -> np.ndarray:
    """Smooths (..., H, W) by averaging over cells and interpolating between them: a wide blur for two matrix products.

    The result is about a blur with a standard deviation of ``scale`` pixels, the width of a cell.
    """
    height, width = field.shape[-2:]
    down, up = _smoothing(height, max(2, round(height / scale)))
    left, right = _smoothing(width, max(2, round(width / scale)))
    return np.asarray(up @ (down @ field @ left.T) @ right.T)


def diffused(field: np.ndarray, length: float, exponent: float) -> np.ndarray:
    """Weakens what is smaller than a length in pixels, as light does that wanders through a cloud; periodic (H, W).

    Structures a tenth as large as the length keep about a tenth to the power of ``exponent``.
    """
    down, right = _frequencies((field.shape[0], field.shape[1]))
    kernel = (1 + (down**2 + right**2) * np.float32(length**2)) ** np.float32(-exponent / 2)
    return np.asarray(np.fft.irfft2(np.fft.rfft2(field) * kernel, s=field.shape), np.float32)


def cells(rng: np.random.Generator, shape: Shape, pitch: float) -> tuple[np.ndarray, np.ndarray]:
    """Divides an area into irregular cells around scattered points.

    See Worley (1996), https://doi.org/10.1145/237170.237267. ``pitch``, the mean distance of the points in pixels, is
    met as nearly as a whole number of them along each edge allows.

    Returns:
        Cell numbers (H, W) int32, counted over all cells, and the distance to the nearest border between two cells
        relative to the pitch, (H, W) float32, about 0 on a border and 0.5 in a middle; both are periodic.
    """
    height, width = shape
    rows, columns = max(1, round(height / pitch)), max(1, round(width / pitch))
    jitter = rng.random((2, rows, columns), dtype=np.float32)
    y = (np.arange(height, dtype=np.float32) * np.float32(rows / height))[:, None]
    x = (np.arange(width, dtype=np.float32) * np.float32(columns / width))[None]
    cell_y, cell_x = y.astype(np.int32), x.astype(np.int32)
    nearest = np.full(shape, np.inf, np.float32)
    second = np.full(shape, np.inf, np.float32)
    owner = np.zeros(shape, np.int32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row, column = cell_y + dy, cell_x + dx
            number = row % rows * columns + column % columns
            distance = (jitter[0].ravel()[number] + row - y) ** 2 + (jitter[1].ravel()[number] + column - x) ** 2
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            owner = np.where(closer, number, owner)
            nearest = np.minimum(nearest, distance)
    return owner, (np.sqrt(second) - np.sqrt(nearest)) * np.float32(0.5)


def soften(field: np.ndarray, threshold: float, width: float) -> np.ndarray:
    """A step (H, W) from 0 to 1 where a field crosses a threshold, rising over ``width`` of its values."""
    rise = (field - np.float32(threshold)) * np.float32(1 / max(width, 1e-6)) + np.float32(0.5)
    return np.clip(rise, 0, 1, out=rise)
