"""Simulated clouds: shapes and optical depths of each kind of sky, their shadows, compositing onto the ground.

A cloud layer of optical depth t reflects t / (t + c) of what an endlessly thick one would; c depends on the particles
and the sun (two-stream approximation, Coakley & Chylek, 1975, J. Atmos. Sci. 32, 409-418). What it lets through, twice,
shows the ground: part of it sharply, part of it blurred. Light that goes back and forth between cloud and ground adds
to that, so that thin cloud over snow is hardly darker or brighter than snow (adding method: reflectance R over ground
of reflectance p gives R + (1 - R)^2 p / (1 - R p); Hansen & Travis, 1974, Space Sci. Rev. 16, 527-610).

All shapes are periodic: what leaves at one edge of the array enters at the other, so shadows and skies move by rolling.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from pydantic import BaseModel, Field

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD
from cloud_assets.errors import InvalidRecipe
from cloud_assets.simulation import spectra
from cloud_assets.simulation.random_fields import Shape, cells, diffused, fractal_field, level, smooth
from cloud_assets.simulation.ranges import Interval, Scale, chance, draw, log_uniform, mostly_low, uniform

_FADING = 0.2  # share of a trail's half length over which its ends fade
_REACH = 4.0  # widths from its middle at which nothing of a trail is left


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


def _droplets(
    rng: np.random.Generator, field: np.ndarray, share: float, depths: Interval, fraying: Interval, metres: Interval
) -> Layers:
    """Clouds of droplets where a field rises over a share of the area, with fine structure, at a height."""
    depth = _above(field, share) * np.float32(log_uniform(rng, depths))
    depth *= np.exp(np.float32(rng.uniform(*fraying)) * fractal_field(rng, field.shape, rng.uniform(2.2, 3.6)))
    return Layers(depth, None, rng.uniform(*metres))


def cumulus(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Scattered small clouds of about one size, with sharp edges."""
    size = max(10.0, log_uniform(rng, (200, 2500)) / pixel_metres)
    field = fractal_field(rng, shape, rng.uniform(3.6, 4.8), outer_scale=size / 2.5)
    field += np.float32(rng.uniform(0.3, 1.2)) * fractal_field(rng, shape, rng.uniform(2.6, 3.4))
    return _droplets(rng, field, 1 - log_uniform(rng, (0.015, 0.5)), (4, 40), (0.1, 0.7), (500, 2500))


def broken(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Ragged clouds of all sizes."""
    field = fractal_field(rng, shape, rng.uniform(2.5, 3.5))
    return _droplets(rng, field, rng.uniform(0.1, 0.95), (4, 60), (0, 0.6), (600, 4500))


def stratocumulus(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Sheets of cells, closed ones with gaps between them or open ones with clouds along their borders."""
    _, border = cells(rng, shape, max(6.0, log_uniform(rng, (400, 3000)) / pixel_metres))
    field = (border - np.float32(0.25)) * np.float32(rng.choice([-4.0, 5.0]))
    field += np.float32(rng.uniform(0.6, 1.2)) * fractal_field(rng, shape, rng.uniform(2.4, 3.2))
    return _droplets(rng, field, rng.uniform(0.05, 0.7), (3, 20), (0.1, 0.4), (500, 2000))


def stratus(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Smooth sheets with soft edges, or fog that lies low."""
    field = fractal_field(rng, shape, rng.uniform(2.8, 3.9))
    return _droplets(rng, field, rng.uniform(0.0, 0.8), (1.5, 20), (0, 0.25), (100, 2000))


def waves(rng: np.random.Generator, shape: Shape, pixel_metres: float) -> Layers:
    """Parallel bands, as behind mountains or in a mackerel sky."""
    wavelength = max(4.0, log_uniform(rng, (300, 4000)) / pixel_metres)
    phase = wave_phase(shape, wavelength, rng.uniform(0, np.pi))
    bend = fractal_field(rng, shape, rng.uniform(2.8, 3.6))
    field = np.sin(phase + bend * np.float32(2 * np.pi * rng.uniform(0.2, 1.5)))
    field += np.float32(rng.uniform(0.6, 1.6)) * fractal_field(rng, shape, rng.uniform(2.6, 3.4))
    return _droplets(rng, field, rng.uniform(0.2, 0.85), (1.5, 15), (0, 0.4), (1500, 6000))


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
SHAPES: Mapping[str, Draw] = {draw.__name__: draw for draw in _DRAWS}  # kinds of sky with clouds


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


_ICE_METRES = (6000, 11_000)
_ICE_ALBEDO = 0.95
_VAPOUR_ABOVE_ICE = 0.04
_DEPTH_THAT_FREEZES = 25
_BLUR_PIXELS, _GLOW_PIXELS = 10, 12
_BRIGHTEST_GROUND = 0.95
_VISIBLE_CHANGE = 0.02
_AIR_ABOVE_CLOUDS = 0.5
_LOWEST_TANGENT = 0.15  # shadows of a sun lower than about 9 degrees are not drawn out any longer
_SIDEWAYS_METRES = (100.0, 500.0)
"""How far light wanders inside a cloud before it leaves: what is smaller shows the less in the cloud's relief."""
_SIDEWAYS_EXPONENT = (1.1, 1.6)
"""By which power of its size. With it, simulated covers at 30 m have about a third of the contrast between pixels that
they have between blocks of five; ten real ones have a third to a fifth."""


class CloudRecipe(BaseModel, frozen=True, extra="forbid"):
    """Ranges that simulated clouds are drawn from."""

    none: float = Field(0.28, ge=0, description="Weight of a cloudless sky.")
    cumulus: float = Field(0.16, ge=0, description="Weight of scattered small clouds with sharp edges.")
    broken: float = Field(0.14, ge=0, description="Weight of ragged clouds of all sizes.")
    stratocumulus: float = Field(0.06, ge=0, description="Weight of sheets of cells.")
    stratus: float = Field(0.10, ge=0, description="Weight of smooth sheets with soft edges, fog among them.")
    waves: float = Field(0.04, ge=0, description="Weight of parallel bands of clouds.")
    overcast: float = Field(0.10, ge=0, description="Weight of a closed cover.")
    cirrus: float = Field(0.10, ge=0, description="Weight of high streaks of ice.")
    veil: float = Field(0.05, ge=0, description="Weight of thin, wide, smooth sheets.")
    mixed: float = Field(0.11, ge=0, description="Weight of broken clouds under cirrus.")
    contrails: float = Field(0.06, ge=0, le=1, description="Probability of vapour trails on top.")
    strength: Scale = Field((0.5, 2.2), description="Factor on the optical depth.")
    saturation_depth: Interval = Field((3.0, 9.0), description="Optical depth that reflects half.")
    albedo: Interval = Field((0.85, 1.20), description="Reflectance of an endlessly thick cloud.")
    relief: Interval = Field((0.0, 0.7), description="Contrast between lit and unlit sides of a cloud; mostly low.")
    shadow: Interval = Field((0.65, 1.0), description="Share of direct light that the thickest shadow takes.")
    glow: Interval = Field((0.0, 0.06), description="Light scattered from clouds onto their surroundings.")
    thin_from: float = Field(0.05, gt=0, lt=1, description="Layer reflectance at which thin cloud begins.")
    thick_from: float = Field(0.30, gt=0, lt=1, description="Layer reflectance at which thick cloud begins.")
    shadow_from: float = Field(0.35, gt=0, lt=1, description="Loss of direct light that counts as shadow.")

    @property
    def kinds(self) -> dict[str, float]:
        """Weight of each kind of sky."""
        return {"none": self.none} | {name: float(getattr(self, name)) for name in SHAPES}


CLEAR_SKY = CloudRecipe(none=1, contrails=0, **dict.fromkeys(SHAPES, 0.0))  # no clouds at all


@dataclass(frozen=True)
class Sun:
    """Where the sun stands."""

    azimuth: float  # direction that shadows point to, radians from the row axis' right end downwards
    elevation: float  # height over the horizon in radians
    ozone: float = 1.0  # ozone that it shines through, relative to an ordinary column

    @property
    def air_mass(self) -> float:
        """Length of the sunlight's way through the air relative to the vertical."""
        return float(1 / np.sin(self.elevation))


@dataclass(frozen=True)
class CloudField:
    """Clouds over (H, W) pixels, ready to be laid over ground of any bands."""

    kind: str  # the kind of sky, a field of :class:`CloudRecipe`
    droplets: np.ndarray  # (H, W) float32 share of light reflected by water clouds, in [0, 1)
    ice: np.ndarray | None  # the same of ice clouds above them; None if there are none
    optical_depth: np.ndarray  # (H, W) float32 of both together
    shade: np.ndarray | None  # (H, W) float32 share of direct sunlight that shadows take; None without clouds
    albedo: np.ndarray | None  # (H, W) float32 reflectance of endlessly thick cloud, textured; None without clouds
    ice_share: float  # how much the lower clouds' droplets are frozen, in [0, 1]
    vapour_above: float  # share of the water vapour that lies above the lower clouds
    sun: Sun  # whose light it is
    sharpness: float  # optical depth over which details of the ground blur
    glow: float  # strength of the light on the surroundings
    mask: np.ndarray  # (H, W) uint8 canonical codes: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow


def draw_sun(
    rng: np.random.Generator, elevation_degrees: tuple[float, float], ozone: tuple[float, float] = (1.0, 1.0)
) -> Sun:
    """Places the sun in any direction, at an elevation from the range."""
    return Sun(rng.uniform(0, 2 * np.pi), float(np.radians(uniform(rng, elevation_degrees))), uniform(rng, ozone))


def simulate_clouds(
    rng: np.random.Generator, shape: Shape, sun: Sun, pixel_metres: float, recipe: CloudRecipe
) -> CloudField:
    """Draws a sky: clouds over (H, W) pixels of ``pixel_metres``, their shadows and the mask.

    Raises:
        InvalidRecipe: All weights of the recipe are zero.
    """
    if sum(recipe.kinds.values()) <= 0:
        raise InvalidRecipe("A cloud recipe needs one kind of sky with a weight above 0 ('none' for clear sky).")
    kind = draw(rng, recipe.kinds)
    layers = (
        Layers(np.zeros(shape, np.float32), None, 0.0) if kind == "none" else SHAPES[kind](rng, shape, pixel_metres)
    )
    if chance(rng, recipe.contrails):
        layers = layers.with_contrails(rng, pixel_metres)
    return _light(rng, kind, layers, sun, pixel_metres, recipe)


def _light(
    rng: np.random.Generator, kind: str, layers: Layers, sun: Sun, pixel_metres: float, recipe: CloudRecipe
) -> CloudField:
    """Turns optical depths into light: what the layers reflect, the shadows they cast, and the mask."""
    strength = np.float32(log_uniform(rng, recipe.strength))
    half = np.float32(uniform(rng, recipe.saturation_depth))
    water_depth = layers.water * strength
    droplets, ice, depth = water_depth / (water_depth + half), None, water_depth
    if layers.ice is not None:
        ice_depth = layers.ice * strength
        ice, depth = ice_depth / (ice_depth + half), water_depth + ice_depth
    mask = np.full(depth.shape, CLEAR, np.uint8)
    shade = albedo = None
    if depth.any():
        both = droplets if ice is None else 1 - (1 - droplets) * (1 - ice)
        shade = cast_shadow(droplets, layers.metres, sun.azimuth, sun.elevation, pixel_metres)
        if ice is not None:
            high = cast_shadow(ice, rng.uniform(*_ICE_METRES), sun.azimuth, sun.elevation, pixel_metres)
            shade = 1 - (1 - shade) * (1 - high)
        shade *= np.float32(uniform(rng, recipe.shadow))
        outline = outlined(both)
        mask[outlined(shade) > recipe.shadow_from] = CLOUD_SHADOW
        mask[outline > recipe.thin_from] = THIN_CLOUD
        mask[outline > recipe.thick_from] = THICK_CLOUD
        contrast, brightness = mostly_low(rng, recipe.relief), uniform(rng, recipe.albedo)
        albedo = lit_albedo(rng, water_depth, sun.azimuth, sun.elevation, contrast, brightness, pixel_metres)
    freezes = float(depth.max()) > _DEPTH_THAT_FREEZES and chance(rng, 0.4)
    return CloudField(
        kind=kind,
        droplets=droplets,
        ice=ice,
        optical_depth=depth,
        shade=shade,
        albedo=albedo,
        ice_share=rng.uniform(0, 1.0 if freezes else 0.15),
        vapour_above=float(np.exp(-layers.metres / rng.uniform(1800, 2600))),
        sun=sun,
        sharpness=rng.uniform(6, 20),
        glow=uniform(rng, recipe.glow),
        mask=mask,
    )


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
        Reflectance (C, H, W) float32, a new array, and the mask (H, W) uint8 in canonical codes. Where thin cloud
        changes no band by more than 0.02 of white, over snow for example, the label is clear: such cloud is invisible.

    Raises:
        InvalidRecipe: The sizes differ, or a band is unknown.
    """
    if reflectance.shape != (len(bands), *clouds.mask.shape):
        raise InvalidRecipe(
            f"Clouds of {clouds.mask.shape} pixels cannot be laid over an array {reflectance.shape} of {len(bands)} "
            "bands: give (C, H, W) with the same H and W."
        )
    result = np.array(reflectance, np.float32)
    if clouds.shade is None or clouds.albedo is None:
        return result, clouds.mask.copy()
    sky = spectra.sky_light(bands, clouds.sun.air_mass)
    # The unlit sides of a cloud are lit by the blue sky: its relief is strongest in the near infrared.
    mean_albedo = np.float32(clouds.albedo.mean())
    relief = 1 - spectra.sky_light(bands, clouds.sun.air_mass, _AIR_ABOVE_CLOUDS)
    # Light that the air below the clouds scatters reaches the sensor from shadows too.
    path = spectra.path_reflectance(bands, clouds.sun.air_mass) * np.float32(0.8 * illumination)
    light = spectra.ozone(bands, clouds.sun.air_mass, clouds.sun.ozone) * np.float32(illumination)
    white = light * _colour(bands, clouds.ice_share, clouds.vapour_above)
    glow = np.float32(clouds.glow) * smooth(clouds.droplets, _GLOW_PIXELS)
    glow_colour = spectra.aerosol(bands) * white
    bumps = clouds.droplets * (clouds.albedo - mean_albedo)
    layers = [(clouds.droplets, clouds.droplets * mean_albedo, bumps, white, *_transmission(clouds, clouds.droplets))]
    above = opacity(clouds.droplets)
    if clouds.ice is not None:
        above = 1 - (1 - above) * (1 - opacity(clouds.ice))
        ice_white = light * _colour(bands, 1.0, _VAPOUR_ABOVE_ICE)
        ice = clouds.ice * np.float32(_ICE_ALBEDO)
        layers.append((clouds.ice, ice, np.zeros_like(ice), ice_white, *_transmission(clouds, clouds.ice)))
    shade = np.maximum(clouds.shade - above, 0)  # beyond what the cloud right above takes from the ground anyway
    for index, band in enumerate(result):
        veil = np.minimum(band, path[index])
        band -= veil
        band *= 1 - shade * (1 - sky[index])
        band += veil
        band += glow * glow_colour[index]
        for share, reflected, bumps, colour, sharp, blurred in layers:
            background = smooth(band, _BLUR_PIXELS)
            band *= sharp
            band += blurred * background
            # Light goes back and forth between the layer and what is below it.
            np.minimum(background, np.float32(_BRIGHTEST_GROUND * illumination), out=background)
            background *= share * np.float32(-1 / illumination)
            background += 1
            band /= background
            band += (reflected + bumps * relief[index]) * colour[index]
    mask = clouds.mask.copy()
    change = outlined(np.abs(result - reflectance).max(0))
    mask[(mask == THIN_CLOUD) & (change < _VISIBLE_CHANGE * illumination)] = CLEAR
    return result, mask


def _colour(bands: tuple[str, ...], ice_share: float, vapour_above: float) -> np.ndarray:
    """Reflectance (C,) of a thick white cloud as seen through the water vapour above it."""
    droplets, crystals = spectra.select("water_cloud", bands), spectra.select("ice_cloud", bands)
    mixed = np.float32(1 - ice_share) * droplets + np.float32(ice_share) * crystals
    return np.asarray(mixed * np.exp(-spectra.select("vapour_depth", bands) * np.float32(vapour_above)))


def _transmission(clouds: CloudField, layer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the ground's light that comes through a layer sharply and blurred, each (H, W)."""
    through = (1 - layer) ** 2
    sharp = through * np.exp(clouds.optical_depth * np.float32(-1 / clouds.sharpness))
    return sharp, through - sharp


def cast_shadow(layer: np.ndarray, metres: float, azimuth: float, elevation: float, pixel_metres: float) -> np.ndarray:
    """Moves a layer's opacity away from the sun by its height: share of direct sunlight taken from the ground, (H, W).

    ``layer`` (H, W), periodic, is the share of light that it reflects, in [0, 1), ``metres`` its height over the
    ground. ``azimuth`` and ``elevation`` are as in :class:`Sun`.
    """
    distance = metres / max(np.tan(elevation), _LOWEST_TANGENT) / pixel_metres
    return opacity(np.roll(layer, (round(distance * np.sin(azimuth)), round(distance * np.cos(azimuth))), (0, 1)))


def opacity(layer: np.ndarray) -> np.ndarray:
    """Share of direct sunlight that a layer (H, W), by the share of light it reflects, keeps from what lies behind it.

    Light that a cloud scatters forward leaves the direct beam too: shadows are darker than the cloud is bright.
    """
    return np.asarray(layer / (layer + np.float32(0.45) * (1 - layer)))


def lit_albedo(
    rng: np.random.Generator,
    depth: np.ndarray,
    azimuth: float,
    elevation: float,
    contrast: float,
    albedo: float,
    pixel_metres: float,
) -> np.ndarray:
    """Reflectance (H, W) of endlessly thick cloud with bumps, brighter on the sides towards the sun; periodic.

    Light wanders sideways between the droplets, which weakens what is smaller than a few hundred metres, the smaller
    the more (Davis et al., 1997, J. Atmos. Sci. 54, 241-260): clouds are smoother than snow and rock of equal relief.

    ``depth`` (H, W), periodic, is the optical depth, which stands for the height of the cloud's top; ``contrast``, 0 to
    about 0.7, is that between the sides when the sun stands low; ``albedo`` the mean reflectance.
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
    """Averages over 5 x 5 pixels with binomial weights: people outline clouds, they do not label single pixels."""
    smoothed = layer
    for axis in (0, 1):
        for shift in (1, -1, 1, -1):
            smoothed = smoothed + np.roll(smoothed, shift, axis)
    smoothed *= np.float32(1 / 256)
    return smoothed
