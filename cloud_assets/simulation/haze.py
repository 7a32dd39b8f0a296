"""Haze: a nearly even veil of aerosol that brightens dark ground and dims bright ground, most in the blue."""

import numpy as np

from cloud_assets.simulation.random_fields import Shape, smooth
from cloud_assets.simulation.ranges import log_uniform

_BRIGHTNESS = (0.10, 0.16)
_DIMMING = np.float32(1.1)


def draw_haze(rng: np.random.Generator, shape: Shape, depths: tuple[float, float]) -> np.ndarray:
    """Draws the optical depth of aerosol at 550 nm.

    Args:
        rng: Source of randomness.
        shape: (H, W) in pixels.
        depths: Range of the mean depth, positive.

    Returns:
        (H, W) float32, within a percent or two of its mean.
    """
    depth = np.float32(log_uniform(rng, depths))
    waves = smooth(rng.uniform(0.4, 1.6, shape).astype(np.float32), max(shape) / 4)
    haze: np.ndarray = depth * np.maximum(waves, 0)
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
