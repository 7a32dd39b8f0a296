"""Simulated patches: ground, air, clouds and sensor put together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, Field

from cloud_assets.bands import UNLABELLED
from cloud_assets.simulation import spectra
from cloud_assets.simulation.clouds import CloudRecipe, Sun, composite_clouds, draw_sun, simulate_clouds
from cloud_assets.simulation.ground import Ground, GroundRecipe, simulate_ground
from cloud_assets.simulation.random_fields import Shape, fractal_field
from cloud_assets.simulation.ranges import Interval, Scale, log_uniform, uniform
from cloud_assets.simulation.sensor import SensorRecipe, randomise_sensor

_HAZE_BRIGHTNESS = (0.10, 0.16)
_HAZE_DIMMING = np.float32(1.1)
_HAZE_UNEVENNESS = (0.0, 0.35)
_HAZE_SLOPE = (3.6, 4.4)


class SimulationRecipe(BaseModel, frozen=True, extra="forbid"):
    """Everything that a simulated patch is drawn from."""

    ground: GroundRecipe = Field(default_factory=GroundRecipe)
    clouds: CloudRecipe = Field(default_factory=CloudRecipe)
    sensor: SensorRecipe = Field(default_factory=SensorRecipe)
    sun_elevation: Interval = Field((18.0, 70.0), description="Degrees over the horizon.")
    illumination: Interval = Field(
        (0.55, 1.1),
        description="Reflectance of a white surface: 1 for data corrected for the height of the sun, down to 0.3 for "
        "data that are not (Landsat level 1).",
    )
    haze: Scale = Field((0.02, 0.5), description="Optical depth of aerosol at 550 nm.")
    vapour: Interval = Field((0.5, 2.0), description="Water vapour relative to an ordinary column.")
    ozone: Interval = Field((0.65, 1.5), description="Ozone relative to an ordinary column, 300 Dobson units.")


@dataclass(frozen=True)
class SimulatedPatch:
    """One simulated patch with its truth: mask, optical depth, land cover."""

    reflectance: np.ndarray  # (C, H, W) float32 top-of-atmosphere reflectance; 0 without data
    mask: np.ndarray  # (H, W) uint8: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, 255 without data
    valid: np.ndarray  # (H, W) bool: there are data
    present: np.ndarray  # (C,) bool: the sensor has the band; the others are 0
    cloud_optical_depth: np.ndarray  # (H, W) float32
    land_cover: np.ndarray  # (H, W) uint8 index into :data:`~cloud_assets.simulation.spectra.SURFACE_NAMES`
    biome: str  # landscape, a key of :data:`~cloud_assets.simulation.ground.BIOMES`
    sky: str  # kind of sky, a weight of :class:`~cloud_assets.simulation.clouds.CloudRecipe`
    bands: tuple[str, ...]  # STAC common names of the C bands


def simulate_patch(
    rng: np.random.Generator, size: int | Shape, bands: Sequence[str], recipe: SimulationRecipe | None = None
) -> SimulatedPatch:
    """Simulates one patch of ``size`` pixels a side, or (H, W), in bands of these STAC common names.

    Raises:
        InvalidRecipe: A band is unknown, or the recipe contradicts itself.
    """
    from scipy.fft import next_fast_len

    recipe = recipe or SimulationRecipe()
    shape = (size, size) if isinstance(size, int) else size
    # Spectral synthesis is fast at sizes with small prime factors; the surplus is cut off in the end.
    height, width = (next_fast_len(side, real=True) for side in shape)
    ground = simulate_ground(rng, (height, width), recipe.ground)
    return observe(rng, ground, bands, recipe, shape)


def observe(
    rng: np.random.Generator, ground: Ground, bands: Sequence[str], recipe: SimulationRecipe, shape: Shape | None = None
) -> SimulatedPatch:
    """Looks at a piece of ground once: under one sun, one sky and through one sensor; cut to ``shape`` (H, W)."""
    names = tuple(bands)
    height, width = shape or ground.shape
    sun = draw_sun(rng, recipe.sun_elevation, recipe.ozone)
    illumination = uniform(rng, recipe.illumination)
    picture = _top_of_atmosphere(rng, ground, names, sun, recipe)
    clouds = simulate_clouds(rng, ground.shape, sun, ground.pixel_metres, recipe.clouds)
    picture, mask = composite_clouds(picture, clouds, names)
    picture *= np.float32(illumination)
    overhead = illumination * sun.air_mass
    sensed = randomise_sensor(rng, picture[:, :height, :width], recipe.sensor, names, overhead)
    mask = mask[:height, :width]
    mask[~sensed.valid] = UNLABELLED
    return SimulatedPatch(
        reflectance=sensed.reflectance,
        mask=mask,
        valid=sensed.valid,
        present=sensed.present,
        cloud_optical_depth=clouds.optical_depth[:height, :width],
        land_cover=ground.land_cover()[:height, :width],
        biome=ground.biome,
        sky=clouds.kind,
        bands=names,
    )


def _top_of_atmosphere(
    rng: np.random.Generator, ground: Ground, bands: tuple[str, ...], sun: Sun, recipe: SimulationRecipe
) -> np.ndarray:
    """Reflectance (C, H, W) of the ground with its relief lit, under haze, water vapour and ozone."""
    picture = ground.reflectance(bands)
    lit = relief_light(ground.gradient, sun)
    sky = spectra.sky_light(bands, sun.air_mass)
    haze = draw_haze(rng, ground.shape, recipe.haze)
    scattering = spectra.aerosol(bands)
    path = spectra.path_reflectance(bands, sun.air_mass) * np.float32(rng.uniform(0.75, 1.3))
    through = np.exp(-spectra.select("vapour_depth", bands) * np.float32(uniform(rng, recipe.vapour)))
    ozone = spectra.ozone(bands, sun.air_mass, sun.ozone)
    bright_haze = draw_brightness(rng)
    for index, band in enumerate(picture):
        band *= lit * (1 - sky[index]) + sky[index]
        veil = haze * (bright_haze * scattering[index]) + path[index]
        dim(band, veil)
        band *= through[index]
        band += veil * max(float(through[index]), 0.002)
        band *= ozone[index]
    return picture


def relief_light(gradient: np.ndarray, sun: Sun) -> np.ndarray:
    """Direct sunlight on sloping ground relative to level ground, (H, W): 0 where the ground turns away from the sun.

    ``gradient`` (2, H, W) is the slope of the ground downwards and to the right, metres a metre; ground that rises in
    the direction of shadows faces the sun.
    """
    lit: np.ndarray = gradient[0] * np.float32(math.sin(sun.azimuth)) + gradient[1] * np.float32(math.cos(sun.azimuth))
    lit *= np.float32(1 / math.tan(sun.elevation))
    lit += 1
    np.maximum(lit, 0, out=lit)
    lit /= np.sqrt(1 + gradient[0] ** 2 + gradient[1] ** 2)
    return lit


def patch_generator(seed: int, index: int) -> np.random.Generator:
    """The source of randomness of one patch: the same for the same seed and index, in whatever order or process."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))


def draw_haze(rng: np.random.Generator, shape: Shape, depths: tuple[float, float]) -> np.ndarray:
    """Optical depth (H, W) of aerosol at 550 nm, a smooth veil; its median is drawn from ``depths``.

    It is periodic, even or drifting by a factor of two over the patch, without fine structure, and brightens dark
    ground and dims bright ground, most in the blue.
    """
    depth = np.float32(log_uniform(rng, depths))
    drift = fractal_field(rng, shape, rng.uniform(*_HAZE_SLOPE))
    return np.asarray(depth * np.exp(np.float32(rng.uniform(*_HAZE_UNEVENNESS)) * drift))


def draw_brightness(rng: np.random.Generator) -> np.float32:
    """Reflectance of haze of optical depth 1."""
    return np.float32(rng.uniform(*_HAZE_BRIGHTNESS))


def dim(band: np.ndarray, veil: np.ndarray) -> None:
    """Takes from a band, in place, what a veil scatters away on the way down and up; its own light is to be added.

    Both are (H, W) float32 reflectance, that of the veil over black ground.
    """
    band *= 1 - _HAZE_DIMMING * veil
