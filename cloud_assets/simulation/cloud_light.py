"""Illumination of simulated clouds: their shadows on the ground, sunlit and shaded sides, outlines for the labels."""

import numpy as np

from cloud_assets.simulation.random_fields import diffused, fractal_field
from cloud_assets.simulation.ranges import log_uniform, mostly_low, uniform

_LOWEST_TANGENT = 0.15
"""Shadows of a sun lower than about 9 degrees are not drawn out any longer."""
_SIDEWAYS_METRES = (100.0, 500.0)
"""How far light wanders inside a cloud before it leaves: what is smaller shows the less in the cloud's relief."""
_SIDEWAYS_EXPONENT = (1.1, 1.6)
"""By which power of its size. With it, simulated covers at 30 m have about a third of the contrast between pixels that
they have between blocks of five; ten real ones have a third to a fifth."""


def cast_shadow(layer: np.ndarray, metres: float, azimuth: float, elevation: float, pixel_metres: float) -> np.ndarray:
    """Moves a layer's opacity away from the sun by its height.

    Args:
        layer: (H, W) share of light that the layer reflects, in [0, 1); periodic.
        metres: Height of the layer over the ground.
        azimuth: Direction that shadows point to, radians from the row axis' right end downwards.
        elevation: Of the sun over the horizon in radians.
        pixel_metres: Ground sampling distance.

    Returns:
        (H, W) float32 share of direct sunlight taken from the ground, in [0, 1].
    """
    distance = metres / max(np.tan(elevation), _LOWEST_TANGENT) / pixel_metres
    return opacity(np.roll(layer, (round(distance * np.sin(azimuth)), round(distance * np.cos(azimuth))), (0, 1)))


def opacity(layer: np.ndarray) -> np.ndarray:
    """Share of direct sunlight that a layer keeps from what lies behind it.

    Light that a cloud scatters forward leaves the direct beam too: shadows are darker than the cloud is bright.

    Args:
        layer: (H, W) share of light that the layer reflects, in [0, 1).

    Returns:
        (H, W) float32, in [0, 1].
    """
    kept: np.ndarray = layer / (layer + np.float32(0.45) * (1 - layer))
    return kept


def lit_albedo(
    rng: np.random.Generator,
    depth: np.ndarray,
    azimuth: float,
    elevation: float,
    contrast: float,
    albedo: float,
    pixel_metres: float,
) -> np.ndarray:
    """Brightness of thick cloud with bumps, whose sides towards the sun are brighter than those away from it.

    Light wanders sideways between the droplets, which weakens what is smaller than a few hundred metres, the smaller
    the more (Davis et al., 1997, J. Atmos. Sci. 54, 241-260): clouds are smoother than snow and rock of equal relief.

    Args:
        rng: Source of randomness.
        depth: (H, W) optical depth, which stands for the height of the cloud's top; periodic.
        azimuth: Direction that shadows point to, radians from the row axis' right end downwards.
        elevation: Of the sun over the horizon in radians.
        contrast: Between the sides when the sun stands low, 0 to about 0.7.
        albedo: Mean reflectance of an endlessly thick cloud.
        pixel_metres: Ground sampling distance.

    Returns:
        (H, W) float32 reflectance of an endlessly thick cloud; periodic.
    """
    bumps = fractal_field(rng, (depth.shape[0], depth.shape[1]), rng.uniform(2.9, 3.8))
    if rng.random() < 0.6:
        # Folding at zero makes round domes with creases between them; 0.8 and 0.6 are the fold's mean and deviation.
        bumps = (np.float32(0.8) - np.abs(bumps)) * np.float32(1 / 0.6)
    surface = np.log(depth + np.float32(0.5)) + np.float32(rng.uniform(0.05, 0.8)) * bumps
    surface = diffused(surface, log_uniform(rng, _SIDEWAYS_METRES) / pixel_metres, uniform(rng, _SIDEWAYS_EXPONENT))
    down, right = np.float32(np.sin(azimuth)), np.float32(np.cos(azimuth))
    rise = (np.roll(surface, -1, 0) - np.roll(surface, 1, 0)) * down
    rise += (np.roll(surface, -1, 1) - np.roll(surface, 1, 1)) * right
    # Light comes from where shadows do not point to, so a side is lit where the cloud rises along them.
    rise *= np.float32(contrast * np.cos(elevation) / (float(rise.std()) * 2 + 0.02))
    np.clip(rise, -0.6, 0.35, out=rise)
    rise += 1
    rise *= np.float32(albedo) * (1 + np.float32(mostly_low(rng, (0, 0.1))) * bumps)
    return rise


def outlined(layer: np.ndarray) -> np.ndarray:
    """Averages over five by five pixels with binomial weights: people outline clouds, they do not label single pixels.

    Args:
        layer: (H, W); periodic.

    Returns:
        (H, W) of the same type.
    """
    smoothed = layer
    for axis in (0, 1):
        for shift in (1, -1, 1, -1):
            smoothed = smoothed + np.roll(smoothed, shift, axis)
    smoothed *= np.float32(1 / 256)
    return smoothed
