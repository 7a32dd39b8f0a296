"""Waves and trails that go on across the edges of their array, so that rolling it leaves no straight seam."""

from itertools import product

import numpy as np

from cloud_assets.simulation.random_fields import Shape

_FADING = 0.2
"""Share of a trail's half length over which its ends fade."""
_REACH = 4.0
"""Widths from its middle at which nothing of a trail is left."""


def wave_phase(shape: Shape, wavelength: float, angle: float) -> np.ndarray:
    """Phase of parallel waves, of which a whole number fits each edge of the array.

    Args:
        shape: (H, W) in pixels.
        wavelength: In pixels, met as nearly as whole numbers of waves allow.
        angle: Of the direction across the waves, radians from the row axis' right end downwards; met likewise.

    Returns:
        (H, W) float32 in radians, growing by 2π from wave to wave.
    """
    down, right = round(shape[0] * np.sin(angle) / wavelength), round(shape[1] * np.cos(angle) / wavelength)
    if down == right == 0:
        down, right = (1, 0) if abs(np.sin(angle)) > abs(np.cos(angle)) else (0, 1)
    rows = np.arange(shape[0], dtype=np.float32)[:, None] * np.float32(2 * np.pi * down / shape[0])
    phase: np.ndarray = rows + np.arange(shape[1], dtype=np.float32)[None] * np.float32(2 * np.pi * right / shape[1])
    return phase


def trail(
    shape: Shape, middle: tuple[float, float], angle: float, half_length: float, width: float, shift: np.ndarray
) -> np.ndarray:
    """A straight streak with a bell-shaped profile and fading ends; what leaves at one edge enters at the other.

    Args:
        shape: (H, W) in pixels.
        middle: Row and column of its middle.
        angle: Its direction, radians from the row axis' right end downwards.
        half_length: From the middle to an end in pixels; at most the shorter edge of the array.
        width: Distance from the axis in pixels at which the profile has fallen to 1/e.
        shift: (H, W) by how many pixels the streak is displaced sideways, which makes it ragged; periodic.

    Returns:
        (H, W) float32, 1 on the axis of the streak.
    """
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    streak = np.zeros(shape, np.float32)
    for down, right in product((-1, 0, 1), repeat=2):
        y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(middle[0] + down * shape[0])
        x = np.arange(shape[1], dtype=np.float32)[None] - np.float32(middle[1] + right * shape[1])
        distance = (y * cosine - x * sine + shift) * np.float32(1 / width)
        if np.abs(distance).min() > _REACH:
            continue
        beyond = (np.float32(half_length) - np.abs(x * cosine + y * sine)) * np.float32(1 / (_FADING * half_length))
        streak += np.clip(beyond, 0, 1) * np.exp(-np.square(distance))
    return streak
