"""Haze: a smooth veil of aerosol that brightens dark ground and dims bright ground, most in the blue."""

import numpy as np

from cloud_assets.simulation.random_fields import Shape, fractal_field
from cloud_assets.simulation.ranges import log_uniform

_BRIGHTNESS = (0.10, 0.16)
_DIMMING = np.float32(1.1)
_UNEVENNESS = (0.0, 0.35)
_SLOPE = (3.6, 4.4)


def draw_haze(rng: np.random.Generator, shape: Shape, depths: tuple[float, float]) -> np.ndarray:
    """Draws the optical depth of aerosol at 550 nm.

    Args:
        rng: Source of randomness.
        shape: (H, W) in pixels.
        depths: Range of the median depth, positive.

    Returns:
        (H, W) float32, periodic: from even to drifting by a factor of two over the patch, without fine structure.
    """
    depth = np.float32(log_uniform(rng, depths))
    drift = fractal_field(rng, shape, rng.uniform(*_SLOPE))
    haze: np.ndarray = depth * np.exp(np.float32(rng.uniform(*_UNEVENNESS)) * drift)
    return haze


def draw_brightness(rng: np.random.Generator) -> np.float32:
    """Reflectance of haze of optical depth 1."""
    return np.float32(rng.uniform(*_BRIGHTNESS))


def dim(band: np.ndarray, veil: np.ndarray) -> None:
    """Takes from a band, in place, what a veil scatters away on the way down and up; its own light is to be added.

    Args:
        band: (H, W) float32 reflectance.
        veil: (H, W) float32 reflectance of the veil over black ground.
    """
    band *= 1 - _DIMMING * veil
