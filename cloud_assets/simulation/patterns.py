"""Patterns on the ground: parcels of land, irrigation circles, river courses."""

from functools import lru_cache

import numpy as np

from cloud_assets.simulation.random_fields import Shape, fractal_field


@lru_cache(maxsize=8)
def _coordinates(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None]


def rotated_coordinates(shape: Shape, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a direction.

    Args:
        shape: (H, W) in pixels.
        angle: In radians, counted from the row axis' right end downwards.

    Returns:
        Two (H, W) float32 arrays in pixels.
    """
    y, x = _coordinates(shape)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _strips(
    rng: np.random.Generator, position: np.ndarray, pitch: float, border: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cuts a coordinate into strips of random widths: strip numbers, where the borders are, and how many strips."""
    start = float(position.min())
    length = int(float(position.max()) - start) + 2
    widths = rng.uniform(0.5, 1.6, int(length / pitch * 2) + 3) * pitch
    edges = np.cumsum(widths) - widths[0] * rng.random()
    fine = 4  # table entries a pixel
    steps = np.arange(length * fine, dtype=np.float32) / fine
    strip = np.searchsorted(edges, steps).astype(np.int32)
    near = np.minimum(
        np.abs(edges[np.clip(strip, 0, edges.size - 1)] - steps), np.abs(steps - edges[np.maximum(strip - 1, 0)])
    )
    entry = ((position - np.float32(start)) * np.float32(fine)).astype(np.int32)
    return strip[entry], (near < border / 2)[entry], int(strip.max()) + 1


def parcels(
    rng: np.random.Generator, shape: Shape, pitch: float, border: float = 0.0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Divides an area into crooked, roughly rectangular parcels, as fields and city blocks are.

    Args:
        rng: Source of randomness.
        shape: (H, W) in pixels.
        pitch: Mean width of a parcel in pixels.
        border: Width in pixels of the hedges or streets between parcels; 0 for none.

    Returns:
        Parcel numbers (H, W) int32, where the borders are (H, W) bool, and how many numbers there can be.
    """
    along, across = rotated_coordinates(shape, rng.uniform(0, np.pi))
    warp = fractal_field(rng, shape, 4.0)
    amount = np.float32(pitch * rng.uniform(0, 0.9))
    row, row_border, rows = _strips(rng, along + amount * warp, pitch, border)
    offsets = rng.uniform(0, 40 * pitch, rows).astype(np.float32)
    column, column_border, columns = _strips(
        rng, across - amount * np.roll(warp, 97, 1) + offsets[row], pitch * rng.uniform(0.8, 2.5), border
    )
    return row * columns + column, row_border | column_border, rows * columns


def irrigation_circles(rng: np.random.Generator, shape: Shape, pitch: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Places centre-pivot irrigation circles on a grid.

    Args:
        rng: Source of randomness.
        shape: (H, W) in pixels.
        pitch: Distance of the centres in pixels.

    Returns:
        Circle numbers (H, W) int32, where a circle is (H, W) bool, and how many numbers there can be.
    """
    y, x = _coordinates(shape)
    rows, columns = int(shape[0] / pitch) + 2, int(shape[1] / pitch) + 2
    y, x = y / np.float32(pitch) + np.float32(rng.random()), x / np.float32(pitch) + np.float32(rng.random())
    row, column = y.astype(np.int32), x.astype(np.int32)
    number = row * columns + column
    radius = (rng.uniform(0.3, 0.49, rows * columns) * (rng.random(rows * columns) < rng.uniform(0.4, 1))).astype(
        np.float32
    )
    inside = (y - row - np.float32(0.5)) ** 2 + (x - column - np.float32(0.5)) ** 2 < radius[number] ** 2
    return number, inside, rows * columns


def river(rng: np.random.Generator, shape: Shape, width: float) -> np.ndarray:
    """Draws a winding river along a contour of a smooth field.

    Args:
        rng: Source of randomness.
        shape: (H, W) in pixels.
        width: Of the river in pixels.

    Returns:
        (H, W) float32 share of each pixel that is river, in [0, 1].
    """
    field = fractal_field(rng, shape, rng.uniform(3.0, 3.8))
    steepness = float(np.abs(np.diff(field, axis=0)).mean()) + 1e-6
    distance = np.abs(field - np.float32(rng.normal() * 0.4)) / np.float32(steepness * 1.4)
    share: np.ndarray = np.clip(np.float32(width / 2 + 0.5) - distance, 0, 1)
    return share


def choose_per_parcel(rng: np.random.Generator, number: np.ndarray, count: int, shares: np.ndarray) -> np.ndarray:
    """Gives every parcel one of several uses.

    Args:
        rng: Source of randomness.
        number: Parcel numbers (H, W).
        count: How many numbers there can be.
        shares: (uses,) probabilities, summing to 1.

    Returns:
        (H, W) index of the use.
    """
    uses = np.searchsorted(np.cumsum(shares)[:-1], rng.random(count)).astype(np.int8)
    chosen: np.ndarray = uses[number]
    return chosen
