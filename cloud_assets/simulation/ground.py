"""Simulated ground: landscapes, and land cover, slope and moisture of each pixel, for optical bands and radar."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

import numpy as np
import yaml
from pydantic import BaseModel, Field, TypeAdapter, field_validator

from cloud_assets.simulation.random_fields import Shape, cells, fractal_field, level, soften
from cloud_assets.simulation.ranges import Interval, Scale, chance, draw, log_uniform
from cloud_assets.simulation.spectra import COMMON_NAMES, SURFACE_NAMES, TEXTURE, band_positions, signatures


@dataclass(frozen=True)
class Biome:
    """A landscape of ``landscapes.yaml``: surfaces that mix, and what else is found in it."""

    surfaces: Mapping[str, float]  # surfaces that mix in fractal patches, with their weights
    weight: float = 1.0  # how often the landscape is drawn, relative to the others
    parcels: Mapping[str, float] = field(default_factory=dict)  # uses of parcels, with their weights; empty for none
    parcel_chance: float = 0.0  # probability that there are parcels
    parcel_metres: tuple[float, float] = (90, 700)  # width of a parcel
    circles: float = 0.0  # probability that parcels are irrigation circles
    water: Mapping[str, float] = field(default_factory=lambda: {"water": 3, "green water": 2, "turbid water": 2})
    """What lakes and rivers hold; for a frozen landscape, ice."""
    lakes: float = 0.1  # probability of lakes
    rivers: float = 0.15  # probability of a river
    town: float = 0.05  # probability of a settlement
    roads: float = 0.1  # probability of a road
    relief: tuple[float, float] = (0.0, 0.12)  # typical tangent of the ground's slope
    snow_line: float = 0.0  # probability that the high ground is covered in snow
    dunes: float = 0.0  # probability of dunes or wind ripples
    softness: float = 1.0  # factor on the width of the borders between surfaces
    contrast: tuple[float, float] | None = None
    """Range of a factor on texture and on the difference between a surface's two spectra; None for a factor of 1."""
    ripples: tuple[float, float] | None = None
    """Range of the relative brightness variation by relief that the wind makes, smaller than a pixel; None for none."""


_CONTENT = files(__package__).joinpath("landscapes.yaml").read_text(encoding="utf-8")
BIOMES: Mapping[str, Biome] = TypeAdapter(dict[str, Biome]).validate_python(
    yaml.load(_CONTENT, yaml.CSafeLoader)["landscapes"]
)
"""Landscapes by name."""

VARIED: tuple[str, ...] = tuple(name for name in BIOMES if name not in ("ice sheet", "snowy forest"))
"""Landscapes on which colour or texture tells clouds from ground. The others ask for near infrared and a deep scale."""


SOILS = frozenset({"soil", "dark soil", "red soil", "sand", "bright sand", "salt", "burnt", "dry grass"})
"""Surfaces that darken when moist."""

_LARGEST_REFLECTANCE = 0.98
_SURFACE_COUNTS, _COUNT_CHANCES = (1, 2, 3, 4), (0.3, 0.35, 0.2, 0.15)


class GroundRecipe(BaseModel, frozen=True, extra="forbid"):
    """Ranges that simulated ground is drawn from."""

    pixel_metres: Scale = Field((10.0, 60.0), description="Ground sampling distance in metres.")
    biomes: tuple[str, ...] = Field(VARIED, min_length=1, description="Landscapes to draw from.")
    brightness: Interval = Field((0.75, 1.25), description="Factor on each surface's spectrum.")
    spectral_jitter: float = Field(0.045, ge=0, description="Spread of the factor on each single band.")
    texture: Scale = Field((0.1, 1.3), description="Factor on the surfaces' own texture.")
    sharpness: Scale = Field((0.04, 0.5), description="Width of the borders between surfaces; small is hard.")

    @field_validator("biomes")
    @classmethod
    def _check_biomes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in BIOMES]
        if unknown:
            raise ValueError(f"no landscapes called {unknown}; choose from {', '.join(BIOMES)}")
        return value


@dataclass(frozen=True)
class Ground:
    """A piece of ground of (H, W) pixels."""

    biome: str  # its landscape, a key of :data:`~cloud_assets.simulation.ground.BIOMES`
    surfaces: tuple[str, ...]  # the K surfaces that occur
    cover: np.ndarray  # (K, H, W) float32 share of each surface in each pixel, summing to 1
    brightness: np.ndarray  # (K, H, W) float32 factor on each surface's reflectance: texture, and darkening by moisture
    variation: np.ndarray
    """(H, W) float32 in [0, 1]: how far a pixel's spectrum goes from the first to the second of a surface's two."""
    spectra: np.ndarray  # (K, 2, 13) float32 reflectance of each surface's two spectra
    gradient: np.ndarray  # (2, H, W) float32 slope of the ground downwards and to the right, metres a metre
    moisture: np.ndarray  # (H, W) float32 in [0, 1]
    pixel_metres: float  # ground sampling distance

    @property
    def shape(self) -> Shape:
        """(H, W)."""
        return self.cover.shape[1], self.cover.shape[2]

    def reflectance(self, bands: tuple[str, ...]) -> np.ndarray:
        """Bottom-of-atmosphere reflectance (C, H, W) under even light, without relief."""
        chosen = self.spectra[:, :, list(band_positions(bands))]
        weights = np.empty((2, *self.cover.shape), np.float32)
        np.multiply(self.cover, self.brightness, out=weights[0])
        np.multiply(weights[0], self.variation, out=weights[1])
        weights[0] -= weights[1]
        spectra = chosen.transpose(2, 1, 0).reshape(len(bands), -1)
        return np.asarray(spectra @ weights.reshape(2 * len(self.surfaces), -1)).reshape(len(bands), *self.shape)

    def land_cover(self) -> np.ndarray:
        """The prevailing surface of each pixel, (H, W) uint8 index into ``SURFACE_NAMES``."""
        names = np.array([SURFACE_NAMES.index(name) for name in self.surfaces], np.uint8)
        return np.asarray(names[self.cover.argmax(0)])


def simulate_ground(rng: np.random.Generator, shape: Shape, recipe: GroundRecipe) -> Ground:
    """Draws a piece of ground of (H, W) pixels."""
    weights = np.array([BIOMES[name].weight for name in recipe.biomes])
    name = recipe.biomes[int(rng.choice(len(weights), p=weights / weights.sum()))]
    biome = BIOMES[name]
    metres = log_uniform(rng, recipe.pixel_metres)
    cover = _Cover(shape, _mixture(rng, shape, biome, recipe))
    height, gradient = _relief(rng, shape, biome)
    if chance(rng, biome.parcel_chance):
        _lay_parcels(rng, cover, biome, metres)
    if chance(rng, biome.snow_line):
        line = level(height, rng.uniform(0.1, 0.9))
        snowy = soften(height + np.float32(0.15) * fractal_field(rng, shape, 2.0), line, rng.uniform(0.05, 0.6))
        cover.put("snow" if chance(rng, 0.6) else "old snow", snowy)
    _add_water(rng, cover, biome, metres)
    _add_settlement(rng, cover, biome, metres)
    contrast = 1.0 if biome.contrast is None else log_uniform(rng, biome.contrast)
    ground = _finish(rng, cover, gradient, name, metres, recipe, contrast)
    if biome.ripples is not None:
        # Sastrugi: on snow without any other structure the only one, a grain that all bands share.
        ripples = fractal_field(rng, shape, rng.uniform(0.0, 0.5))
        ground.brightness[:] *= 1 + np.float32(log_uniform(rng, biome.ripples)) * ripples
    return ground


class _Cover:
    """Shares of surfaces a pixel, while the ground is being put together."""

    def __init__(self, shape: Shape, shares: dict[str, np.ndarray]) -> None:
        self.shape = shape
        self.shares = shares

    def put(self, surface: str, mask: np.ndarray) -> None:
        """Lays a surface over whatever is there; ``mask`` (H, W) in [0, 1] says how densely."""
        self._make_room(mask)
        self._add(surface, mask)

    def put_uses(self, surfaces: tuple[str, ...], use: np.ndarray, mask: np.ndarray) -> None:
        """Places several surfaces at once; ``use`` (H, W) is the number of the surface at each pixel."""
        self._make_room(mask)
        for index, surface in enumerate(surfaces):
            self._add(surface, (use == index) * mask)

    def _make_room(self, mask: np.ndarray) -> None:
        rest = 1 - mask
        for share in self.shares.values():
            share *= rest

    def _add(self, surface: str, mask: np.ndarray) -> None:
        if surface in self.shares:
            self.shares[surface] += mask
        else:
            self.shares[surface] = mask.astype(np.float32)


def _mixture(rng: np.random.Generator, shape: Shape, biome: Biome, recipe: GroundRecipe) -> dict[str, np.ndarray]:
    names = list(biome.surfaces)
    weights = np.array([biome.surfaces[name] for name in names])
    count = min(len(names), int(rng.choice(_SURFACE_COUNTS, p=_COUNT_CHANCES)))
    chosen = rng.choice(len(names), count, replace=False, p=weights / weights.sum())
    if count == 1:
        return {names[chosen[0]]: np.ones(shape, np.float32)}
    fields = np.stack([fractal_field(rng, shape, slope) for slope in rng.uniform(2.6, 3.8, count).tolist()])
    fields += (0.5 * np.log(weights[chosen]) + 0.5 * rng.standard_normal(count)).astype(np.float32)[:, None, None]
    if "sea ice" in biome.surfaces and chance(rng, 0.6):
        owner, _ = cells(rng, shape, log_uniform(rng, (12, 60)))
        fields += rng.normal(0, 1.2, (count, int(owner.max()) + 1)).astype(np.float32)[:, owner]
    fields -= fields.max(0)
    fields *= np.float32(1 / (biome.softness * log_uniform(rng, recipe.sharpness)))
    np.exp(fields, out=fields)
    fields /= fields.sum(0)
    return {names[index]: field for index, field in zip(chosen, fields, strict=True)}


def _relief(rng: np.random.Generator, shape: Shape, biome: Biome) -> tuple[np.ndarray, np.ndarray]:
    """Height (H, W) without unit, and slope (2, H, W)."""
    height = fractal_field(rng, shape, rng.uniform(3.4, 4.3))
    if biome.relief[1] > 0.3 and chance(rng, 0.6):
        # Folding a fractal at its zero contour gives ridges and valleys (Musgrave et al., 1989).
        height -= np.float32(1.2) * np.abs(np.roll(height, (shape[0] // 3, shape[1] // 3), (0, 1)))
    if chance(rng, biome.dunes):
        slope, size, stretch = rng.uniform(3.5, 5), log_uniform(rng, (2, 14)), rng.uniform(1.5, 7)
        dunes = fractal_field(rng, shape, slope, outer_scale=size, stretch=stretch, angle=rng.uniform(0, np.pi))
        height = height * np.float32(0.05) + dunes
    gradient = np.empty((2, *shape), np.float32)
    gradient[0, 1:-1] = height[2:] - height[:-2]
    gradient[0, [0, -1]] = gradient[0, [1, -2]]
    gradient[1, :, 1:-1] = height[:, 2:] - height[:, :-2]
    gradient[1, :, [0, -1]] = gradient[1, :, [1, -2]]
    # Gentle ground is more frequent than steep ground, so the draw leans towards the lower end.
    low, high = biome.relief
    gradient *= np.float32((low + (high - low) * rng.random() ** 2) / (float(gradient.std()) + 1e-9))
    return height, gradient


def _lay_parcels(rng: np.random.Generator, cover: _Cover, biome: Biome, metres: float) -> None:
    pitch = max(3.0, log_uniform(rng, biome.parcel_metres) / metres)
    if chance(rng, biome.circles):
        number, inside, count = irrigation_circles(rng, cover.shape, max(8.0, rng.uniform(500, 1100) / metres))
        tilled = inside.astype(np.float32)
        border = None
    else:
        number, border, count = parcels(rng, cover.shape, pitch, rng.uniform(0, 1.6))
        part = fractal_field(rng, cover.shape, 3.0)
        tilled = soften(part, level(part, rng.choice([0.0, rng.uniform(0, 0.8)])), 0.05)
    weights = np.array(list(biome.parcels.values())) * rng.uniform(0.2, 1.8, len(biome.parcels))
    use = choose_per_parcel(rng, number, count, weights / weights.sum())
    cover.put_uses(tuple(biome.parcels), use, tilled)
    if border is not None and chance(rng, 0.6):
        cover.put(
            draw(rng, {"grass": 1, "forest": 1, "asphalt": 2 if biome.town > 0.5 else 0.4, "dry grass": 1}),
            border * tilled * np.float32(0.8),
        )


def _add_water(rng: np.random.Generator, cover: _Cover, biome: Biome, metres: float) -> None:
    if chance(rng, biome.lakes):
        field = fractal_field(rng, cover.shape, rng.uniform(2.6, 3.5))
        shore = level(field, rng.uniform(0.45, 0.97))
        cover.put(draw(rng, biome.water), soften(field, shore, 0.03))
        if chance(rng, 0.25):
            cover.put(
                draw(rng, {"sand": 1, "turbid water": 1, "grass": 1}),
                soften(np.abs(field - np.float32(shore)), 0.03, 0.03) * -1 + 1,
            )
    if chance(rng, biome.rivers):
        cover.put(draw(rng, biome.water), river(rng, cover.shape, log_uniform(rng, (12, 500)) / metres))


def _add_settlement(rng: np.random.Generator, cover: _Cover, biome: Biome, metres: float) -> None:
    if chance(rng, biome.town):
        place = fractal_field(rng, cover.shape, 2.6)
        built = soften(place, level(place, rng.uniform(0.3, 0.97) if biome.town < 1 else rng.uniform(0.05, 0.5)), 0.25)
        number, _, count = parcels(rng, cover.shape, max(1.6, rng.uniform(15, 70) / metres))
        shares = np.array([0.65, 0.15, rng.uniform(0, 0.1), rng.uniform(0, 0.05), 0.1])
        use = choose_per_parcel(rng, number, count, shares / shares.sum())
        cover.put_uses(("town", "asphalt", "red roof", "bright roof", "grass"), use, built)
    if chance(rng, biome.roads):
        for _ in range(int(rng.integers(1, 4))):
            _, across = rotated_coordinates(cover.shape, rng.uniform(0, np.pi))
            bend = fractal_field(rng, cover.shape, 4.0) * np.float32(rng.uniform(0, 12))
            distance = np.abs(across + bend - np.float32(rng.uniform(across.min(), across.max())))
            width = rng.uniform(6, 35) / metres
            cover.put(
                draw(rng, {"asphalt": 2, "soil": 1, "pale rock": 1}),
                np.clip(np.float32(width / 2 + 0.5) - distance, 0, min(1.0, width)),
            )


def _finish(
    rng: np.random.Generator,
    cover: _Cover,
    gradient: np.ndarray,
    biome: str,
    metres: float,
    recipe: GroundRecipe,
    contrast: float,
) -> Ground:
    """Adds texture, moisture and spectra to a land cover."""
    surfaces = tuple(cover.shares)
    count, shape = len(surfaces), cover.shape
    slopes = [rng.uniform(1.0, 1.8), rng.uniform(2.0, 2.8), rng.uniform(2.9, 3.6)]
    textures = np.stack([fractal_field(rng, shape, slope) for slope in slopes])
    strength = np.float32(log_uniform(rng, recipe.texture) * contrast)
    amounts = np.array([TEXTURE[name] for name in surfaces], np.float32) * strength
    moisture = soften(fractal_field(rng, shape, rng.uniform(3.4, 4.2)), rng.uniform(-1, 1.5), rng.uniform(3, 8))
    brightness = (amounts @ textures.reshape(3, -1)).reshape(count, *shape)
    brightness += 1
    for index, name in enumerate(surfaces):
        if name in SOILS:
            brightness[index] *= 1 - np.float32(0.4) * moisture
    np.maximum(brightness, np.float32(0.15), out=brightness)
    wavelengths = np.linspace(-1, 1, len(COMMON_NAMES))
    base = signatures(surfaces)
    both = np.stack([base, base], axis=1)
    for index in range(2):
        factor = rng.uniform(*recipe.brightness, (count, 1)) if index == 0 else rng.uniform(0.85, 1.18, (count, 1))
        tilt = rng.normal(0, 2 * recipe.spectral_jitter, (count, 1)) * wavelengths
        jitter = rng.normal(0, recipe.spectral_jitter, (count, len(COMMON_NAMES)))
        # Bright surfaces are bright because they are white: their colour varies little.
        colour = (tilt + jitter) * (1.12 - both[:, index].max(1, keepdims=True))
        both[:, index:] *= (factor * np.exp(colour))[:, None].astype(np.float32)
    # No surface reflects more than falls on it; scaled down, it keeps its colour.
    both /= np.maximum(both.max(axis=2, keepdims=True) / np.float32(_LARGEST_REFLECTANCE), 1)
    if contrast != 1:
        both[:, 1] = both[:, 0] + np.float32(contrast) * (both[:, 1] - both[:, 0])
    patchy = np.roll(textures[2], shape[1] // 3, 1) + np.roll(textures[1], shape[1] // 3, 1) * strength
    variation = soften(patchy, rng.uniform(-1, 1), 4.0)
    return Ground(
        biome, surfaces, np.stack(list(cover.shares.values())), brightness, variation, both, gradient, moisture, metres
    )


@lru_cache(maxsize=8)
def _coordinates(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None]


def rotated_coordinates(shape: Shape, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (H, W) in pixels along and across a direction, radians from the row axis' right end downwards."""
    y, x = _coordinates(shape)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _strips(
    rng: np.random.Generator, position: np.ndarray, pitch: float, border: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cuts a coordinate into strips of random widths: strip numbers, where the borders are, and how many strips."""
    start = float(position.min())
    length = int(float(position.max()) - start) + 2
    widths = rng.uniform(0.5, 1.6, int(length / pitch * 2) + 3) * pitch
    edges = np.cumsum(widths) - widths[0] * rng.random()
    fine = 4  # table entries a pixel
    steps = np.arange(length * fine, dtype=np.float32) / fine
    strip = np.searchsorted(edges, steps).astype(np.int32)
    near = np.minimum(
        np.abs(edges[np.clip(strip, 0, edges.size - 1)] - steps), np.abs(steps - edges[np.maximum(strip - 1, 0)])
    )
    entry = ((position - np.float32(start)) * np.float32(fine)).astype(np.int32)
    return strip[entry], (near < border / 2)[entry], int(strip.max()) + 1


def parcels(
    rng: np.random.Generator, shape: Shape, pitch: float, border: float = 0.0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Divides an area into crooked, roughly rectangular parcels, as fields and city blocks are.

    ``pitch`` is the mean width of a parcel, ``border`` that of hedges or streets between parcels, in pixels.

    Returns:
        Parcel numbers (H, W) int32, where the borders are (H, W) bool, and how many numbers there can be.
    """
    along, across = rotated_coordinates(shape, rng.uniform(0, np.pi))
    warp = fractal_field(rng, shape, 4.0)
    amount = np.float32(pitch * rng.uniform(0, 0.9))
    row, row_border, rows = _strips(rng, along + amount * warp, pitch, border)
    offsets = rng.uniform(0, 40 * pitch, rows).astype(np.float32)
    column, column_border, columns = _strips(
        rng, across - amount * np.roll(warp, 97, 1) + offsets[row], pitch * rng.uniform(0.8, 2.5), border
    )
    return row * columns + column, row_border | column_border, rows * columns


def irrigation_circles(rng: np.random.Generator, shape: Shape, pitch: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Places centre-pivot irrigation circles on a grid, their centres ``pitch`` pixels apart.

    Returns:
        Circle numbers (H, W) int32, where a circle is (H, W) bool, and how many numbers there can be.
    """
    y, x = _coordinates(shape)
    rows, columns = int(shape[0] / pitch) + 2, int(shape[1] / pitch) + 2
    y, x = y / np.float32(pitch) + np.float32(rng.random()), x / np.float32(pitch) + np.float32(rng.random())
    row, column = y.astype(np.int32), x.astype(np.int32)
    number, count = row * columns + column, rows * columns
    radius = (rng.uniform(0.3, 0.49, count) * (rng.random(count) < rng.uniform(0.4, 1))).astype(np.float32)
    inside = (y - row - np.float32(0.5)) ** 2 + (x - column - np.float32(0.5)) ** 2 < radius[number] ** 2
    return number, inside, count


def river(rng: np.random.Generator, shape: Shape, width: float) -> np.ndarray:
    """Share (H, W) of each pixel that is river, ``width`` pixels wide, winding along a contour of a smooth field."""
    field = fractal_field(rng, shape, rng.uniform(3.0, 3.8))
    steepness = float(np.abs(np.diff(field, axis=0)).mean()) + 1e-6
    distance = np.abs(field - np.float32(rng.normal() * 0.4)) / np.float32(steepness * 1.4)
    return np.asarray(np.clip(np.float32(width / 2 + 0.5) - distance, 0, 1))


def choose_per_parcel(rng: np.random.Generator, number: np.ndarray, count: int, shares: np.ndarray) -> np.ndarray:
    """Gives each of ``count`` parcels one of several uses by their ``shares``; (H, W) index of the use."""
    uses = np.searchsorted(np.cumsum(shares)[:-1], rng.random(count)).astype(np.int8)
    return np.asarray(uses[number])
