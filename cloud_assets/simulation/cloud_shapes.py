"""Shapes of clouds: one function a kind of sky, each giving optical depths of a water and an ice layer.

All are periodic: what leaves at one edge of the array enters at the other, so that shadows and whole skies can be moved
by rolling.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from cloud_assets.simulation.random_fields import Shape, cells, fractal_field, level
from cloud_assets.simulation.ranges import log_uniform

_FADING = 0.2
"""Share of a trail's half length over which its ends fade."""
_REACH = 4.0
"""Widths from its middle at which nothing of a trail is left."""


@dataclass(frozen=True)
class Layers:
    """Optical depths of the layers of a sky."""

    water: np.ndarray  # (H, W) float32 optical depth of clouds of droplets
    ice: np.ndarray | None  # (H, W) float32 optical depth of clouds of ice above them
    metres: float  # height of the water clouds over the ground

    def with_contrails(self, rng: np.random.Generator, pixel_metres: float) -> "Layers":
        """The same sky with vapour trails."""
        shape = (self.water.shape[0], self.water.shape[1])
        ice = np.zeros(shape, np.float32) if self.ice is None else self.ice.copy()
        for _ in range(int(rng.integers(1, 4))):
            ragged = fractal_field(rng, shape, 3.0)
            width = max(1.0, log_uniform(rng, (40, 500)) / pixel_metres)
            middle = (rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
            half_length = rng.uniform(0.3, 1.0) * min(shape)
            streak = trail(shape, middle, rng.uniform(0, np.pi), half_length, width, np.float32(width * 0.5) * ragged)
            patchy = np.clip(1 + np.float32(rng.uniform(0, 0.8)) * ragged, 0, None)
            ice += np.float32(log_uniform(rng, (0.4, 2.5))) * streak * patchy
        return Layers(self.water, ice, self.metres)


Draw = Callable[[np.random.Generator, Shape, float], Layers]


def _above(field: np.ndarray, share: float) -> np.ndarray:
    """How far a field rises over the level that it stays below over the given share of the area."""
    risen = field - np.float32(level(field, share))
    return np.maximum(risen, 0, out=risen)


def _frayed(rng: np.random.Generator, depth: np.ndarray, amount: float) -> np.ndarray:
    """Modulates an optical depth with fine structure."""
    shape = (depth.shape[0], depth.shape[1])
    depth *= np.exp(np.float32(amount) * fractal_field(rng, shape, rng.uniform(2.2, 3.6)))
    return depth


def cumulus(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Scattered small clouds of about one size, with sharp edges."""
    size = max(10.0, log_uniform(rng, (200, 2500)) / pixel_metres)
    field = fractal_field(rng, shape, rng.uniform(3.6, 4.8), outer_scale=size / 2.5)
    field += np.float32(rng.uniform(0.3, 1.2)) * fractal_field(rng, shape, rng.uniform(2.6, 3.4))
    depth = _above(field, 1 - log_uniform(rng, (0.015, 0.5))) * np.float32(log_uniform(rng, (4, 40)))
    return Layers(_frayed(rng, depth, rng.uniform(0.1, 0.7)), None, rng.uniform(500, 2500))


def broken(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Ragged clouds of all sizes."""
    field = fractal_field(rng, shape, rng.uniform(2.5, 3.5))
    depth = _above(field, rng.uniform(0.1, 0.95)) * np.float32(log_uniform(rng, (4, 60)))
    return Layers(_frayed(rng, depth, rng.uniform(0, 0.6)), None, rng.uniform(600, 4500))


def stratocumulus(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Sheets of cells, closed ones with gaps between them or open ones with clouds along their borders."""
    _, border = cells(rng, shape, max(6.0, log_uniform(rng, (400, 3000)) / pixel_metres))
    field = (border - np.float32(0.25)) * np.float32(rng.choice([-4.0, 5.0]))
    field += np.float32(rng.uniform(0.6, 1.2)) * fractal_field(rng, shape, rng.uniform(2.4, 3.2))
    depth = _above(field, rng.uniform(0.05, 0.7)) * np.float32(log_uniform(rng, (3, 20)))
    return Layers(_frayed(rng, depth, rng.uniform(0.1, 0.4)), None, rng.uniform(500, 2000))


def stratus(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Smooth sheets with soft edges, or fog that lies low."""
    field = fractal_field(rng, shape, rng.uniform(2.8, 3.9))
    depth = _above(field, rng.uniform(0.0, 0.8)) * np.float32(log_uniform(rng, (1.5, 20)))
    return Layers(_frayed(rng, depth, rng.uniform(0, 0.25)), None, rng.uniform(100, 2000))


def waves(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Parallel bands, as behind mountains or in a mackerel sky."""
    wavelength = max(4.0, log_uniform(rng, (300, 4000)) / pixel_metres)
    phase = wave_phase(shape, wavelength, rng.uniform(0, np.pi))
    bend = fractal_field(rng, shape, rng.uniform(2.8, 3.6))
    field = np.sin(phase + bend * np.float32(2 * np.pi * rng.uniform(0.2, 1.5)))
    field += np.float32(rng.uniform(0.6, 1.6)) * fractal_field(rng, shape, rng.uniform(2.6, 3.4))
    depth = _above(field, rng.uniform(0.2, 0.85)) * np.float32(log_uniform(rng, (1.5, 15)))
    return Layers(_frayed(rng, depth, rng.uniform(0, 0.4)), None, rng.uniform(1500, 6000))


def overcast(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """A closed cover, from featureless to rugged."""
    field = fractal_field(rng, shape, rng.uniform(2.9, 3.9))
    depth = np.float32(log_uniform(rng, (5, 250))) * np.exp(np.float32(log_uniform(rng, (0.005, 0.8))) * field)
    return Layers(depth, None, rng.uniform(800, 6000))


def _streaks(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    angle = rng.uniform(0, np.pi)
    field = fractal_field(rng, shape, rng.uniform(2.4, 3.3), stretch=rng.uniform(1.5, 8), angle=angle)
    field += np.float32(rng.uniform(0, 0.9)) * fractal_field(rng, shape, 3.2)
    depth = _above(field, rng.uniform(0, 0.8)) * np.float32(log_uniform(rng, (0.3, 4)))
    fibres = fractal_field(rng, shape, 2.2, stretch=rng.uniform(4, 12), angle=angle + rng.normal() * 0.1)
    depth *= np.exp(np.float32(rng.uniform(0, 0.5)) * fibres)
    return depth


def cirrus(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """High streaks and fibres of ice."""
    return Layers(np.zeros(shape, np.float32), _streaks(rng, shape), 0.0)


def veil(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Thin sheets as wide as the picture, high or low."""
    field = fractal_field(rng, shape, rng.uniform(3.0, 4.0))
    depth = np.float32(log_uniform(rng, (0.4, 5))) * np.exp(np.float32(rng.uniform(0.1, 0.9)) * field)
    if rng.random() < 0.5:
        return Layers(np.zeros(shape, np.float32), depth, 0.0)
    return Layers(depth, None, rng.uniform(100, 5000))


def mixed(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Broken clouds or cumulus under streaks of ice."""
    low = (cumulus if rng.random() < 0.5 else broken)(rng, shape, pixel_metres)
    return Layers(low.water, _streaks(rng, shape), low.metres)


_DRAWS: tuple[Draw, ...] = (cumulus, broken, stratocumulus, stratus, waves, overcast, cirrus, veil, mixed)
SHAPES: Mapping[str, Draw] = {draw.__name__: draw for draw in _DRAWS}
"""Kinds of sky with clouds."""


def wave_phase(shape: Shape, wavelength: float, angle: float) -> np.ndarray:
    """Phase (H, W) of parallel waves in radians, growing by 2π from wave to wave.

    ``wavelength`` in pixels and ``angle`` across the waves, radians from the row axis' right end downwards, are met as
    nearly as whole numbers of waves along each edge allow: rolling the array leaves no straight seam.
    """
    down, right = round(shape[0] * np.sin(angle) / wavelength), round(shape[1] * np.cos(angle) / wavelength)
    if down == right == 0:
        down, right = (1, 0) if abs(np.sin(angle)) > abs(np.cos(angle)) else (0, 1)
    rows = np.arange(shape[0], dtype=np.float32)[:, None] * np.float32(2 * np.pi * down / shape[0])
    return rows + np.arange(shape[1], dtype=np.float32)[None] * np.float32(2 * np.pi * right / shape[1])


def trail(
    shape: Shape, middle: tuple[float, float], angle: float, half_length: float, width: float, shift: np.ndarray
) -> np.ndarray:
    """A straight streak (H, W), 1 on its axis, with a bell-shaped profile and fading ends; what leaves enters opposite.

    ``middle`` is a row and column, ``angle`` in radians from the row axis' right end downwards. ``half_length`` is at
    most the shorter edge of the array; at ``width`` pixels from the axis the profile has fallen to 1/e. ``shift``
    (H, W), periodic, are the pixels by which the streak is displaced sideways, which makes it ragged.
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
