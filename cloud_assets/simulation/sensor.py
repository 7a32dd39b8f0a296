"""Simulated sensor: gain, noise, blur and the like as separate steps for simulated or real reflectance (C, H, W).

Every step takes and returns float32 reflectance and never changes its input. :func:`randomise_sensor` draws all of them
within the ranges of a :class:`SensorRecipe`, so that a model learns what clouds look like to any sensor.

Real instruments are in ``instruments.csv``, radiances in W m-2 sr-1 um-1, the sun's irradiance in W m-2 um-1: TM and
ETM+ (gains as over land) from https://doi.org/10.1016/j.rse.2009.01.007 (Chander et al. 2009), the noise of ETM+, taken
for TM too, from https://doi.org/10.1016/j.rse.2011.08.026 (Irons et al. 2012), OLI from https://doi.org/10.3390/rs70202208
(Morfitt et al. 2015) and the Landsat 8 and 9 Data Users Handbooks, MSI from https://doi.org/10.1016/j.rse.2011.11.026
(Drusch et al. 2012) and Sentinel-2A's product metadata.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from cloud_assets.simulation.random_fields import Shape, level
from cloud_assets.simulation.ranges import Interval, Scale, chance, log_uniform, uniform

InstrumentName = Literal["landsat_tm", "landsat_etm", "landsat_oli", "sentinel2_msi"]
_TABLE = files(__package__).joinpath("instruments.csv").read_text(encoding="utf-8")
_DETECTORS = {(row["instrument"], row["band"]): row for row in csv.DictReader(_TABLE.splitlines())}
"""By instrument and the common name of a band."""


class SensorRecipe(BaseModel, frozen=True, extra="forbid"):
    """Ranges of a sensor's properties; probabilities say how often a step happens at all."""

    gain_spread: float = Field(0.015, ge=0, description="Spread of the calibration factor of single bands.")
    offset_spread: float = Field(0.003, ge=0, description="Spread of the offset of single bands, reflectance.")
    noise: Scale = Field((0.0001, 0.003), description="Standard deviation of read noise, reflectance.")
    shot_noise: Interval = Field((0.0, 0.003), description="Noise growing with the root of the reflectance.")
    blur_chance: float = Field(0.4, ge=0, le=1, description="Probability of a soft lens.")
    blur: Interval = Field((0.3, 1.1), description="Standard deviation of the point spread, pixels.")
    coarse_chance: float = Field(0.1, ge=0, le=1, description="Probability of a coarser resolution.")
    coarse: tuple[int, ...] = Field((2, 3, 4, 6), description="Factors of coarser resolution; 10 m times 6 is 60 m.")
    saturation_chance: float = Field(0.3, ge=0, le=1, description="Probability of early saturation.")
    saturation: Interval = Field((0.35, 1.1), description="Reflectance at which detectors saturate.")
    saturation_tint: float = Field(
        0.05, ge=0, description="Spread of that level between bands relative to it: how coloured clouds get."
    )
    saturation_knee: Interval = Field((0.0, 0.3), description="Share of the level over which it bends; 0: sharply.")
    quantisation_chance: float = Field(0.3, ge=0, le=1, description="Probability of coarse quantisation.")
    bits: tuple[int, ...] = Field((8, 10, 12), description="Radiometric resolutions over a reflectance of 0-1.2.")
    wedge_chance: float = Field(0.06, ge=0, le=1, description="Probability of a slanted edge without data.")
    missing_band_chance: float = Field(0.0, ge=0, le=1, description="Probability that a band is absent.")
    instruments: tuple[InstrumentName, ...] = Field(
        (),
        description="Real instruments to draw from: resolution, noise, saturation and bits of each band are theirs.",
        exclude_if=lambda names: not names,  # recipes of before keep the fingerprints of their trainings
    )


@dataclass(frozen=True)
class Sensed:
    """What a sensor recorded."""

    reflectance: np.ndarray  # (C, H, W) float32; 0 where there are no data or the band is absent
    valid: np.ndarray  # (H, W) bool: there are data
    present: np.ndarray  # (C,) bool: the sensor has the band


def miscalibrate(
    rng: np.random.Generator, reflectance: np.ndarray, gain_spread: float, offset_spread: float
) -> np.ndarray:
    """Gives each band an own gain near 1 and an own offset near 0, by their standard deviations."""
    count = len(reflectance)
    gain = rng.normal(1, gain_spread, (count, 1, 1)).astype(np.float32)
    offset = rng.normal(0, offset_spread, (count, 1, 1)).astype(np.float32)
    return np.asarray(reflectance * gain + offset)


def blur(reflectance: np.ndarray, sigma: float) -> np.ndarray:
    """Softens with a Gaussian-like spread of three pixels (two passes above 0.8), ``sigma`` 0 to 1.2 pixels."""
    passes = 1 if sigma <= 0.8 else 2
    side = np.float32(min(0.5 * sigma**2 / passes, 1 / 3))
    result = np.array(reflectance, np.float32)
    for band in result:
        for _ in range(passes):
            for view in (band, band.T):
                edge_low, edge_high = view[0].copy(), view[-1].copy()
                middle = view * (1 - 2 * side)
                middle[1:] += side * view[:-1]
                middle[:-1] += side * view[1:]
                middle[0] += side * edge_low
                middle[-1] += side * edge_high
                view[:] = middle
    return result


def coarsen(reflectance: np.ndarray, factors: int | tuple[int, ...]) -> np.ndarray:
    """Averages blocks of pixels, as a coarser detector does, and repeats them at the old sampling.

    ``factors`` are pixels a side of a block, for all bands or for each (Sentinel-2 at 10 m: 1, 2 and 6).
    """
    each = (factors,) * len(reflectance) if isinstance(factors, int) else factors
    result = np.array(reflectance, np.float32)
    for band, factor in zip(result, each, strict=True):
        if factor > 1:
            height, width = band.shape
            padded = np.pad(band, ((0, -height % factor), (0, -width % factor)), mode="edge")
            blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor).mean((1, 3))
            band[:] = blocks.repeat(factor, 0).repeat(factor, 1)[:height, :width]
    return result


def add_noise(
    rng: np.random.Generator, reflectance: np.ndarray, read: float | np.ndarray, shot: float = 0.0
) -> np.ndarray:
    """Adds noise of the electronics and of the light itself.

    One field of white noise serves all bands, shifted differently for each, which costs a fraction of drawing it anew.
    ``read`` is the standard deviation that does not depend on the signal, ``shot`` at a reflectance of 1 that of the
    part that grows with its root. Each is one number, ``read`` may be one for each band.
    """
    _, height, width = reflectance.shape
    white = rng.standard_normal((height, width), dtype=np.float32)
    shifts = rng.integers(0, (height, width), (len(reflectance), 2))
    result, each = np.array(reflectance, np.float32), np.broadcast_to(read, len(reflectance)).tolist()
    for band, shift, own in zip(result, shifts, each, strict=True):
        deviation: np.ndarray | np.float32 = np.float32(own)
        if shot > 0:
            deviation = np.sqrt(np.float32(own**2) + np.float32(shot**2) * np.maximum(band, 0))
        band += deviation * np.roll(white, tuple(shift), (0, 1))
    return result


def saturate(reflectance: np.ndarray, levels: np.ndarray, knee: float = 0.0) -> np.ndarray:
    """Keeps each band below the reflectance where its detectors are full: clouds turn flat and slightly tinted.

    ``levels`` (C,) are typically 0.35 to 1.1; ``knee`` is the share of the level, below it, over which the response
    bends instead of being cut off sharply, in [0, 1).
    """
    full = np.asarray(levels, np.float32)[:, None, None]
    if knee <= 0:
        return np.asarray(np.minimum(reflectance, full))
    room = full * np.float32(knee)
    above = np.maximum(reflectance - (full - room), 0)
    return np.asarray(np.minimum(reflectance, full - room) + room * -np.expm1(-above / room))


def quantise(reflectance: np.ndarray, bits: int, full_scale: float | np.ndarray = 1.2) -> np.ndarray:
    """Rounds to the steps of an 8- to 14-bit sensor; brighter than full scale, (C,) or one, is the highest number."""
    full = np.asarray(full_scale)[..., None, None]
    step = (full / (2**bits - 1)).astype(np.float32)
    result: np.ndarray = np.rint(np.clip(reflectance, 0, full.astype(np.float32)) / step)
    result *= step
    return result


def nodata_wedge(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Cuts a slanted edge off, as at the border of a scene: (H, W) bool, False without data.

    At least a fifth of the pixels keep theirs.
    """
    angle = rng.uniform(0, 2 * np.pi)
    down = np.linspace(-0.5, 0.5, shape[0], dtype=np.float32)[:, None]
    right = np.linspace(-0.5, 0.5, shape[1], dtype=np.float32)[None]
    distance = right * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle))
    return np.asarray(distance <= level(distance, rng.uniform(0.2, 0.95)))


def randomise_sensor(
    rng: np.random.Generator, light: np.ndarray, recipe: SensorRecipe, bands: Sequence[str] = (), overhead: float = 1.0
) -> Sensed:
    """Looks at light, (C, H, W) float32 top-of-atmosphere reflectance, with a random sensor.

    Real instruments read two more: common names of the bands, of which the finest has the sampling of the light, and
    the reflectance by which the light states what is 1 under a sun ``overhead``, for detectors measure radiance.
    """
    count, shape = len(light), (light.shape[1], light.shape[2])
    seen, has = miscalibrate(rng, light, recipe.gain_spread, recipe.offset_spread), np.ones(count, bool)
    if not recipe.instruments and chance(rng, recipe.coarse_chance):
        seen = coarsen(seen, int(rng.choice(recipe.coarse)))
    if chance(rng, recipe.blur_chance):
        seen = blur(seen, uniform(rng, recipe.blur))
    if recipe.instruments:
        seen, has = _look_through(rng, seen, str(rng.choice(recipe.instruments)), bands, overhead)
    else:
        seen = add_noise(rng, seen, log_uniform(rng, recipe.noise), uniform(rng, recipe.shot_noise))
        if chance(rng, recipe.saturation_chance):
            levels = uniform(rng, recipe.saturation) * rng.normal(1, recipe.saturation_tint, count)
            seen = saturate(seen, levels, uniform(rng, recipe.saturation_knee))
        if chance(rng, recipe.quantisation_chance):
            seen = quantise(seen, int(rng.choice(recipe.bits)))
    np.maximum(seen, np.float32(1e-4), out=seen)
    valid = nodata_wedge(rng, shape) if chance(rng, recipe.wedge_chance) else np.ones(shape, bool)
    present = (rng.random(count) >= recipe.missing_band_chance) & has
    if not present.any():
        present[rng.integers(count)] = True
    seen[~present] = 0
    if not valid.all():
        seen[:, ~valid] = 0
    return Sensed(seen, valid, present)


def _look_through(
    rng: np.random.Generator, reflectance: np.ndarray, instrument: str, bands: Sequence[str], overhead: float
) -> tuple[np.ndarray, np.ndarray]:
    """What a real instrument sees (C, H, W), and which of the bands it has, (C,)."""
    has = np.array([(instrument, band) in _DETECTORS for band in bands])
    rows = [_DETECTORS[instrument, band] for band in bands if (instrument, band) in _DETECTORS]
    names = ("metres", "irradiance", "saturation", "typical", "signal_to_noise")
    metres, irradiance, saturation, typical, ratio = np.array([[float(row[name]) for row in rows] for name in names])
    full, noise = (np.pi * overhead / irradiance * radiance for radiance in (saturation, typical / ratio))
    seen = coarsen(reflectance[has], tuple(round(factor) for factor in metres / metres.min()))
    result = np.zeros_like(reflectance)
    bits = int(rng.choice(rows[0]["bits"].split()))
    result[has] = quantise(saturate(add_noise(rng, seen, noise), full), bits, full)
    return result, has
