"""Surfaces and spectra per band: reflectance of surfaces and clouds, transmission and scattering of the atmosphere.

Bands are named by the STAC ``eo`` extension's common names. Values are those of Sentinel-2's 13 bands; Landsat's bands
of the same names lie close enough. Surface spectra are bottom-of-atmosphere reflectance, rounded from the shapes that
spectral libraries show (ECOSTRESS, https://speclib.jpl.nasa.gov; for snow Warren, 1982,
https://doi.org/10.1029/RG020i001p00067).
"""

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
import yaml

from cloud_assets.errors import InvalidRecipe

_ATMOSPHERE = yaml.load(files(__package__).joinpath("atmosphere.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
COMMON_NAMES: tuple[str, ...] = tuple(_ATMOSPHERE["bands"])
"""The simulated bands, in Sentinel-2's order (B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12)."""
WAVELENGTHS_NM: tuple[int, ...] = tuple(_ATMOSPHERE["bands"].values())
"""Central wavelength of each of :data:`COMMON_NAMES`."""
SPECTRA: Mapping[str, tuple[float, ...]] = {name: tuple(values) for name, values in _ATMOSPHERE["spectra"].items()}
"""What clouds and atmosphere do to light, by name as in ``atmosphere.yaml``: one value for each band."""

_TABLE = files(__package__).joinpath("surfaces.csv").read_text(encoding="utf-8")
_SURFACES = {row["surface"]: row for row in csv.DictReader(_TABLE.splitlines())}
SURFACES = {name: tuple(float(row[band]) for band in COMMON_NAMES) for name, row in _SURFACES.items()}
"""Bottom-of-atmosphere reflectance of each surface in each of :data:`COMMON_NAMES`."""

SURFACE_NAMES: tuple[str, ...] = tuple(SURFACES)

TEXTURE = {name: tuple(float(row[size]) for size in ("grainy", "medium", "coarse")) for name, row in _SURFACES.items()}
"""Relative brightness variation of each surface: grainy, medium and coarse texture (standard deviations)."""
BACKSCATTER_DB = {name: (float(row["vv_db"]), float(row["vh_db"])) for name, row in _SURFACES.items()}
"""Mean C-band backscatter of each surface in decibel, VV and VH, level and dry."""

_AIR_MASS_AT_50_DEGREES = 1.305
_AEROSOL_EXPONENT = -1.3


@lru_cache(maxsize=64)
def band_positions(bands: tuple[str, ...]) -> tuple[int, ...]:
    """Positions of named bands in :data:`COMMON_NAMES`; :class:`InvalidRecipe` if one is not simulated."""
    unknown = [band for band in bands if band not in COMMON_NAMES]
    if unknown or not bands:
        raise InvalidRecipe(
            f"The simulation has no spectra for {unknown or 'an empty list of bands'}. "
            f"Choose from the common names {', '.join(COMMON_NAMES)}."
        )
    return tuple(COMMON_NAMES.index(band) for band in bands)


def select(spectrum: str, bands: Sequence[str]) -> np.ndarray:
    """Picks the named bands out of one of :data:`SPECTRA`, (C,) float32."""
    return np.asarray(SPECTRA[spectrum], np.float32)[list(band_positions(tuple(bands)))]


def signatures(surfaces: Sequence[str]) -> np.ndarray:
    """Spectra of surfaces, (surfaces, 13) float32 reflectance."""
    return np.array([SURFACES[name] for name in surfaces], np.float32)


def aerosol(bands: Sequence[str]) -> np.ndarray:
    """Scattering (C,) of small aerosol particles relative to 550 nm, by Ångström's law with exponent 1.3."""
    wavelengths = np.asarray(WAVELENGTHS_NM, np.float32)[list(band_positions(tuple(bands)))]
    return np.asarray((wavelengths / 550.0) ** np.float32(_AEROSOL_EXPONENT))


def ozone(bands: Sequence[str], air_mass: float, column: float = 1.0) -> np.ndarray:
    """Two-way transmission (C,) of the ozone layer: a low sun shines through more of it, which dims green and red.

    ``air_mass`` is the length of the sunlight's way through the air relative to the vertical, 1 / sin(elevation);
    ``column`` is ozone relative to an ordinary column of 300 Dobson units.
    """
    return np.asarray(select("ozone", bands) ** np.float32(column * (1 + air_mass) / (1 + _AIR_MASS_AT_50_DEGREES)))


def path_reflectance(bands: Sequence[str], air_mass: float) -> np.ndarray:
    """Light (C,) that clean air scatters into the sensor, relative to the light that falls on level ground.

    ``air_mass`` is as in :func:`ozone`.
    """
    growth = 0.45 + 0.55 * air_mass / _AIR_MASS_AT_50_DEGREES
    return np.asarray(select("rayleigh", bands) * np.float32(growth))


def sky_light(bands: Sequence[str], air_mass: float, air: float = 1.0) -> np.ndarray:
    """Share (C,) of the light that comes from the sky and not straight from the sun; a low sun leaves most to the sky.

    ``air_mass`` is as in :func:`ozone`; ``air`` is the share of the atmosphere above: 1 on the ground, half on clouds.
    """
    straight = 1 - select("sky_light", bands)
    return np.asarray(1 - straight ** np.float32(air * air_mass / _AIR_MASS_AT_50_DEGREES))
