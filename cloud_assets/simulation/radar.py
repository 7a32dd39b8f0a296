"""Simulated radar: C-band backscatter of the same ground that the optical bands see.

Mean backscatter follows land cover, rises with the moisture of bare ground and on slopes that face the sensor, and is
covered by speckle: multiplicative noise with a gamma distribution of as many looks as Sentinel-1's ground-range
products have, about 4.4 (Oliver & Quegan, Understanding Synthetic Aperture Radar Images, 2004).
"""

import numpy as np
from pydantic import BaseModel, Field

from cloud_assets.simulation.ground import SOILS, Ground
from cloud_assets.simulation.random_fields import fractal_field
from cloud_assets.simulation.ranges import Interval, uniform
from cloud_assets.simulation.spectra import BACKSCATTER_DB

POLARISATIONS = ("VV", "VH")
_WET_GAIN_DB = 5.0
_TEXTURE_GAIN = 1.5
_WATERS = ("water", "green water", "turbid water", "lagoon", "glint")


class RadarRecipe(BaseModel, frozen=True, extra="forbid"):
    """Ranges of the radar and of what it alone sees."""

    looks: float = Field(4.4, gt=0, description="Equivalent number of looks of the speckle.")
    wind_db: Interval = Field((-2.0, 5.0), description="What wind adds to the backscatter of water.")
    calibration_db: float = Field(0.25, ge=0, description="Spread of the calibration.")
    noise_floor_db: tuple[float, float] = Field(
        (-24.0, -29.0), description="Backscatter that the sensor's own noise looks like, VV and VH."
    )
    slope_gain: float = Field(1.2, ge=0, description="Change of log power with the slope towards the sensor.")
    clip_db: Interval = Field((-30.0, 5.0), description="Range of the values delivered.")


def simulate_backscatter(rng: np.random.Generator, ground: Ground, recipe: RadarRecipe | None = None) -> np.ndarray:
    """Looks at ground, whatever the clouds, with a radar: (2, H, W) float32, VV and VH in decibel."""
    recipe = recipe or RadarRecipe()
    means = np.array([BACKSCATTER_DB[name] for name in ground.surfaces])
    means[[name in _WATERS for name in ground.surfaces]] += uniform(rng, recipe.wind_db)
    means += rng.normal(0, recipe.calibration_db, (1, 2))
    power = (10 ** (means.T / 10)).astype(np.float32)  # (2, K)
    weights = ground.cover * (1 + np.float32(_TEXTURE_GAIN) * (ground.brightness - 1))
    wet = np.exp(ground.moisture * np.float32(_WET_GAIN_DB * np.log(10) / 10))
    for weight, name in zip(weights, ground.surfaces, strict=True):
        if name in SOILS:
            # Moisture darkens soil for the eye and brightens it for the radar: undo the one, do the other.
            weight *= wet
    np.maximum(weights, 0, out=weights)
    seen: np.ndarray = (power @ weights.reshape(len(ground.surfaces), -1)).reshape(2, *ground.shape)
    # An ascending orbit looks to the right, so slopes that rise to the right face the sensor.
    towards = ground.gradient[1] * np.float32(np.cos(0.2)) + ground.gradient[0] * np.float32(np.sin(0.2))
    seen *= np.exp(np.clip(np.float32(recipe.slope_gain) * towards, -1.5, 1.5))
    if any(name in _WATERS for name in ground.surfaces):
        water = sum(share for share, name in zip(ground.cover, ground.surfaces, strict=True) if name in _WATERS)
        seen *= np.exp(np.float32(0.25) * water * fractal_field(rng, ground.shape, 2.6))
    seen += (10 ** (np.array(recipe.noise_floor_db) / 10)).astype(np.float32)[:, None, None]
    seen *= rng.standard_gamma(recipe.looks, seen.shape, dtype=np.float32) * np.float32(1 / recipe.looks)
    decibel: np.ndarray = np.log10(np.maximum(seen, np.float32(1e-6)))
    decibel *= 10
    np.clip(decibel, *recipe.clip_db, out=decibel)
    return decibel
