"""Simulated clouds: fields of optical depth, their shadows, and laying them over any picture of the ground.

A cloud layer of optical depth t reflects t / (t + c) of what an endlessly thick one would (two-stream approximation,
Coakley and Chylek, 1975, https://doi.org/10.1175/1520-0469(1975)032<0409:TTSAIR>2.0.CO;2; c depends on the particles and
the sun). What it lets through, twice, shows the ground: part of it sharply, part of it blurred.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD
from cloud_assets.errors import InvalidRecipe
from cloud_assets.simulation import spectra
from cloud_assets.simulation.cloud_shapes import SHAPES, Layers
from cloud_assets.simulation.random_fields import Shape, fractal_field, smooth
from cloud_assets.simulation.ranges import Interval, Scale, chance, log_uniform, uniform


class CloudRecipe(BaseModel):
    """Ranges that simulated clouds are drawn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    none: float = Field(default=0.22, ge=0, description="Weight of a cloudless sky.")
    cumulus: float = Field(default=0.16, ge=0, description="Weight of scattered small clouds with sharp edges.")
    broken: float = Field(default=0.14, ge=0, description="Weight of ragged clouds of all sizes.")
    stratocumulus: float = Field(default=0.06, ge=0, description="Weight of sheets of cells.")
    stratus: float = Field(default=0.10, ge=0, description="Weight of smooth sheets with soft edges, fog among them.")
    waves: float = Field(default=0.04, ge=0, description="Weight of parallel bands of clouds.")
    overcast: float = Field(default=0.10, ge=0, description="Weight of a closed cover.")
    cirrus: float = Field(default=0.10, ge=0, description="Weight of high streaks of ice.")
    veil: float = Field(default=0.05, ge=0, description="Weight of thin, wide, smooth sheets.")
    mixed: float = Field(default=0.11, ge=0, description="Weight of broken clouds under cirrus.")
    contrails: float = Field(default=0.06, ge=0, le=1, description="Probability of vapour trails on top.")
    strength: Scale = Field(default=(0.5, 1.6), description="Factor on the optical depth.")
    saturation_depth: Interval = Field(default=(5.0, 11.0), description="Optical depth that reflects half.")
    albedo: Interval = Field(default=(0.80, 1.02), description="Reflectance of an endlessly thick cloud.")
    relief: Interval = Field(default=(0.0, 0.35), description="Contrast between the lit and unlit sides of a cloud.")
    shadow: Interval = Field(
        default=(0.65, 1.0), description="Share of the direct light that the thickest shadow takes."
    )
    glow: Interval = Field(default=(0.0, 0.06), description="Light scattered from clouds onto their surroundings.")
    thin_from: float = Field(default=0.05, gt=0, lt=1, description="Layer reflectance at which thin cloud begins.")
    thick_from: float = Field(default=0.30, gt=0, lt=1, description="Layer reflectance at which thick cloud begins.")
    shadow_from: float = Field(default=0.35, gt=0, lt=1, description="Loss of direct light that counts as shadow.")

    @property
    def kinds(self) -> dict[str, float]:
        """Weight of each kind of sky."""
        return {"none": self.none} | {name: float(getattr(self, name)) for name in SHAPES}


@dataclass(frozen=True)
class Sun:
    """Where the sun stands."""

    azimuth: float
    """Direction that shadows point to, radians from the row axis' right end downwards."""
    elevation: float
    """Height over the horizon in radians."""


@dataclass(frozen=True)
class CloudField:
    """Clouds over (H, W) pixels, ready to be laid over ground of any bands."""

    kind: str
    """The kind of sky, a field of :class:`CloudRecipe`."""
    droplets: np.ndarray
    """(H, W) float32 share of light reflected by water clouds, in [0, 1)."""
    ice: np.ndarray | None
    """The same of ice clouds above them; None if there are none."""
    optical_depth: np.ndarray
    """(H, W) float32 of both together."""
    shade: np.ndarray | None
    """(H, W) float32 share of direct sunlight that shadows take, in [0, 1]; None without clouds."""
    albedo: np.ndarray | None
    """(H, W) float32 reflectance of endlessly thick cloud, textured; None without clouds."""
    ice_share: float
    """How much the lower clouds' droplets are frozen, in [0, 1]."""
    vapour_above: float
    """Share of the water vapour that lies above the lower clouds."""
    sharpness: float
    """Optical depth over which details of the ground blur."""
    glow: float
    """Strength of the light on the surroundings."""
    mask: np.ndarray
    """(H, W) uint8 canonical codes: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow."""


def draw_sun(rng: np.random.Generator, elevation_degrees: tuple[float, float]) -> Sun:
    """Places the sun.

    Args:
        rng: Source of randomness.
        elevation_degrees: Range of its height over the horizon.

    Returns:
        The sun, from any direction.
    """
    return Sun(rng.uniform(0, 2 * np.pi), float(np.radians(uniform(rng, elevation_degrees))))


def simulate_clouds(
    rng: np.random.Generator, shape: Shape, sun: Sun, pixel_metres: float, recipe: CloudRecipe
) -> CloudField:
    """Draws a sky.

    Args:
        rng: Source of randomness.
        shape: (H, W) in pixels.
        sun: Where shadows come from.
        pixel_metres: Ground sampling distance.
        recipe: Ranges to draw from.

    Returns:
        The clouds, their shadows and the mask.

    Raises:
        InvalidRecipe: All weights of the recipe are zero.
    """
    weights = np.array(list(recipe.kinds.values()))
    if weights.sum() <= 0:
        raise InvalidRecipe(
            "A cloud recipe needs at least one kind of sky with a weight above 0 ('none' for clear sky)."
        )
    kind = list(recipe.kinds)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    layers = (
        Layers(np.zeros(shape, np.float32), None, 0.0) if kind == "none" else SHAPES[kind](rng, shape, pixel_metres)
    )
    if chance(rng, recipe.contrails):
        layers = layers.with_contrails(rng, pixel_metres)
    return _light(rng, kind, layers, sun, pixel_metres, recipe)


def _light(
    rng: np.random.Generator, kind: str, layers: Layers, sun: Sun, pixel_metres: float, recipe: CloudRecipe
) -> CloudField:
    shape = layers.water.shape
    nothing = not layers.water.any() and layers.ice is None
    strength = log_uniform(rng, recipe.strength)
    half = np.float32(uniform(rng, recipe.saturation_depth))
    ice_depth = None if layers.ice is None else layers.ice * np.float32(strength)
    water_depth = layers.water * np.float32(strength)
    droplets = water_depth / (water_depth + half)
    ice = None if ice_depth is None else ice_depth / (ice_depth + half)
    both = droplets if ice is None else 1 - (1 - droplets) * (1 - ice)
    mask = np.full(shape, CLEAR, np.uint8)
    shade = albedo = None
    if not nothing:
        shade = _shadow(rng, droplets, ice, layers.metres, sun, pixel_metres, uniform(rng, recipe.shadow))
        # People outline clouds; they do not label single pixels.
        outline, dark = _outlined(both), _outlined(shade)
        mask[dark > recipe.shadow_from] = CLOUD_SHADOW
        mask[outline > recipe.thin_from] = THIN_CLOUD
        mask[outline > recipe.thick_from] = THICK_CLOUD
        albedo = _albedo(rng, droplets, sun, recipe)
    depth = water_depth if ice_depth is None else water_depth + ice_depth
    deep = float(depth.max()) > 25
    return CloudField(
        kind=kind,
        droplets=droplets,
        ice=ice,
        optical_depth=depth,
        shade=shade,
        albedo=albedo,
        ice_share=rng.uniform(0, 1) if deep and chance(rng, 0.4) else rng.uniform(0, 0.15),
        vapour_above=float(np.exp(-layers.metres / rng.uniform(1800, 2600))),
        sharpness=rng.uniform(6, 20),
        glow=uniform(rng, recipe.glow),
        mask=mask,
    )


def _outlined(layer: np.ndarray) -> np.ndarray:
    """Averages over five by five pixels, with binomial weights."""
    rows = layer + np.roll(layer, 1, 0)
    rows += np.roll(rows, -1, 0)
    rows += np.roll(rows, 1, 0)
    rows += np.roll(rows, -1, 0)
    columns = rows + np.roll(rows, 1, 1)
    columns += np.roll(columns, -1, 1)
    columns += np.roll(columns, 1, 1)
    columns += np.roll(columns, -1, 1)
    columns *= np.float32(1 / 256)
    return columns


def _shadow(
    rng: np.random.Generator,
    droplets: np.ndarray,
    ice: np.ndarray | None,
    metres: float,
    sun: Sun,
    pixel_metres: float,
    strength: float,
) -> np.ndarray:
    """Light taken from the ground: each layer's opacity, moved away from the sun by its height."""

    def moved(layer: np.ndarray, height: float) -> np.ndarray:
        distance = height / max(np.tan(sun.elevation), 0.15) / pixel_metres
        shift = (round(distance * np.sin(sun.azimuth)), round(distance * np.cos(sun.azimuth)))
        shade = np.roll(layer, shift, (0, 1))
        # A slanted path through the cloud: shadows are darker than the cloud is bright.
        return shade / (shade + np.float32(0.45) * (1 - shade))

    shade = moved(droplets, metres)
    if ice is not None:
        shade = 1 - (1 - shade) * (1 - moved(ice, rng.uniform(6000, 11000)))
    shade *= np.float32(strength)
    return shade


def _albedo(rng: np.random.Generator, droplets: np.ndarray, sun: Sun, recipe: CloudRecipe) -> np.ndarray:
    """Brightness of thick cloud: lit and unlit sides, and some texture."""
    bumps = fractal_field(rng, droplets.shape, rng.uniform(2.0, 3.2))
    surface = np.log(droplets + np.float32(0.02)) + np.float32(rng.uniform(0.05, 0.5)) * bumps
    lit = np.empty_like(surface)
    down, right = np.float32(np.sin(sun.azimuth)), np.float32(np.cos(sun.azimuth))
    lit[1:-1, 1:-1] = (surface[2:, 1:-1] - surface[:-2, 1:-1]) * -down + (
        surface[1:-1, 2:] - surface[1:-1, :-2]
    ) * -right
    lit[[0, -1]], lit[:, [0, -1]] = lit[[1, -2]], lit[:, [1, -2]]
    lit *= np.float32(-uniform(rng, recipe.relief) * np.cos(sun.elevation) / (float(lit.std()) * 2 + 0.02))
    np.clip(lit, -0.6, 0.3, out=lit)
    lit += 1
    lit *= uniform(rng, recipe.albedo) * (1 + np.float32(rng.uniform(0, 0.04)) * bumps)
    return lit


def composite_clouds(
    reflectance: np.ndarray, clouds: CloudField, bands: tuple[str, ...], illumination: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Lays clouds and their shadows over a picture of the ground, simulated or real.

    Args:
        reflectance: (C, H, W) float32 top-of-atmosphere reflectance without clouds.
        clouds: What to lay over it, of the same height and width.
        bands: STAC common names of the C bands.
        illumination: Reflectance that a white surface has in the picture, below 1 where the data are not corrected for
            the height of the sun (Landsat level 1).

    Returns:
        Reflectance (C, H, W) float32, a new array, and the mask (H, W) uint8 in canonical codes.

    Raises:
        InvalidRecipe: The sizes differ, or a band is unknown.
    """
    if reflectance.shape != (len(bands), *clouds.mask.shape):
        raise InvalidRecipe(
            f"Clouds of {clouds.mask.shape} pixels cannot be laid over an array {reflectance.shape} of {len(bands)} bands: "
            "give (C, H, W) with the same H and W."
        )
    result = np.array(reflectance, np.float32)
    if clouds.shade is None or clouds.albedo is None:
        return result, clouds.mask.copy()
    sky, path = (
        spectra.select(spectra.SKY_LIGHT, bands),
        spectra.select(spectra.RAYLEIGH, bands) * np.float32(0.8 * illumination),
    )
    vapour, ozone = spectra.select(spectra.VAPOUR_DEPTH, bands), spectra.select(spectra.OZONE, bands)
    white = (1 - clouds.ice_share) * spectra.select(spectra.WATER_CLOUD, bands) + clouds.ice_share * spectra.select(
        spectra.ICE_CLOUD, bands
    )
    white *= np.exp(-vapour * np.float32(clouds.vapour_above)) * ozone * np.float32(illumination)
    ice_white = (
        spectra.select(spectra.ICE_CLOUD, bands) * np.exp(-vapour * np.float32(0.04)) * ozone * np.float32(illumination)
    )
    glow = np.float32(clouds.glow) * smooth(clouds.droplets, 12)
    air_light = spectra.aerosol(bands) * white
    layers = [
        (clouds.droplets, clouds.albedo, white, _transmission(clouds.droplets, clouds.optical_depth, clouds.sharpness))
    ]
    if clouds.ice is not None:
        layers.append(
            (clouds.ice, np.float32(0.95), ice_white, _transmission(clouds.ice, clouds.optical_depth, clouds.sharpness))
        )
    for index, band in enumerate(result):
        veiled = np.minimum(band, path[index])
        band -= veiled
        band *= 1 - clouds.shade * (1 - sky[index])
        band += veiled
        band += glow * air_light[index]
        for layer, albedo, colour, (sharp, blurred) in layers:
            background = smooth(band, 10)
            band *= sharp
            band += blurred * background
            band += layer * (albedo * colour[index])
    return result, clouds.mask.copy()


def _transmission(layer: np.ndarray, depth: np.ndarray, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Share of the ground's light that comes through a layer sharply and blurred, each (H, W)."""
    through = (1 - layer) ** 2
    sharp = through * np.exp(depth * np.float32(-1 / sharpness))
    return sharp, through - sharp
