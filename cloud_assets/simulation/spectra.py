"""Surfaces and spectra per band: reflectance of surfaces and clouds, transmission and scattering of the atmosphere.

Bands are named by the STAC ``eo`` extension's common names. Values are those of Sentinel-2's 13 bands; Landsat's bands
of the same names lie close enough. Surface spectra are bottom-of-atmosphere reflectance, rounded from the shapes that
spectral libraries show (ECOSTRESS, https://speclib.jpl.nasa.gov; for snow Warren, 1982,
https://doi.org/10.1029/RG020i001p00067).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from cloud_assets.errors import InvalidRecipe

Spectrum = tuple[float, ...]
"""One value for each of :data:`COMMON_NAMES`."""

COMMON_NAMES: tuple[str, ...] = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078",
    "nir", "nir08", "nir09", "cirrus", "swir16", "swir22",
)  # fmt: skip
"""The simulated bands, in Sentinel-2's order (B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12)."""

WAVELENGTHS_NM: tuple[int, ...] = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190)
"""Central wavelength of each of :data:`COMMON_NAMES`."""

SURFACES: dict[str, Spectrum] = {
    #                coastal blue  green  red   re71  re75  re78  nir   nir08 nir09 cirr. swir16 swir22
    "forest":        (.015, .020, .040, .023, .070, .205, .255, .275, .285, .285, .200, .135, .060),
    "conifer":       (.012, .015, .027, .018, .040, .115, .145, .160, .170, .170, .110, .070, .032),
    "crop":          (.020, .028, .060, .034, .090, .320, .420, .450, .460, .450, .300, .190, .090),
    "grass":         (.030, .040, .078, .060, .120, .255, .305, .335, .345, .345, .280, .235, .135),
    "dry grass":     (.060, .080, .120, .160, .190, .220, .250, .280, .300, .310, .360, .400, .300),
    "shrub":         (.035, .045, .070, .080, .110, .160, .185, .205, .215, .220, .230, .240, .165),
    "soil":          (.070, .090, .130, .170, .190, .210, .230, .250, .260, .270, .320, .360, .310),
    "dark soil":     (.035, .042, .058, .075, .085, .096, .106, .118, .125, .130, .165, .195, .170),
    "red soil":      (.045, .060, .110, .250, .285, .310, .330, .350, .360, .370, .410, .460, .400),
    "sand":          (.140, .185, .275, .370, .400, .415, .430, .450, .460, .470, .530, .570, .520),
    "bright sand":   (.280, .340, .430, .500, .520, .530, .540, .555, .560, .565, .600, .620, .570),
    "rock":          (.075, .085, .105, .130, .138, .146, .153, .160, .165, .170, .200, .220, .200),
    "dark rock":     (.038, .042, .050, .056, .059, .063, .067, .071, .074, .077, .095, .110, .100),
    "pale rock":     (.230, .260, .310, .360, .375, .385, .395, .405, .410, .415, .440, .450, .400),
    "salt":          (.400, .450, .520, .560, .570, .575, .580, .580, .580, .575, .500, .430, .360),
    "burnt":         (.030, .034, .042, .052, .060, .068, .078, .088, .094, .100, .130, .160, .150),
    "bog":           (.020, .028, .045, .052, .072, .110, .130, .148, .155, .160, .165, .155, .085),
    "water":         (.032, .028, .020, .010, .007, .005, .004, .004, .003, .003, .002, .002, .001),
    "green water":   (.028, .032, .045, .022, .020, .010, .009, .008, .006, .005, .003, .002, .001),
    "turbid water":  (.060, .080, .115, .110, .095, .050, .045, .034, .030, .018, .004, .004, .003),
    "lagoon":        (.130, .170, .185, .080, .050, .020, .018, .014, .012, .008, .003, .003, .002),
    "glint":         (.300, .300, .300, .300, .300, .300, .300, .300, .300, .300, .300, .290, .260),
    "town":          (.085, .100, .120, .135, .145, .160, .170, .180, .186, .190, .200, .210, .190),
    "asphalt":       (.060, .068, .080, .090, .095, .100, .104, .108, .110, .112, .125, .135, .130),
    "bright roof":   (.380, .430, .480, .510, .520, .525, .530, .535, .540, .530, .520, .500, .440),
    "red roof":      (.060, .075, .110, .210, .240, .260, .275, .290, .300, .310, .350, .390, .360),
    "snow":          (.960, .960, .955, .950, .945, .940, .930, .915, .905, .850, .380, .110, .065),
    "old snow":      (.680, .700, .700, .680, .660, .635, .610, .570, .545, .470, .180, .055, .040),
    "dirty snow":    (.340, .360, .375, .380, .380, .375, .365, .350, .340, .310, .150, .090, .075),
    "ice":           (.500, .525, .500, .420, .370, .320, .280, .240, .220, .160, .040, .020, .015),
    "sea ice":       (.620, .640, .620, .560, .520, .480, .440, .390, .365, .270, .060, .030, .020),
}  # fmt: skip
"""Bottom-of-atmosphere reflectance of each surface in each of :data:`COMMON_NAMES`."""

SURFACE_NAMES: tuple[str, ...] = tuple(SURFACES)

_TEXTURE_AND_BACKSCATTER: dict[str, tuple[tuple[float, float, float], tuple[float, float]]] = {
    "forest":        ((0.13, 0.09, 0.06), (-8.5, -13.5)),
    "conifer":       ((0.15, 0.1, 0.06), (-9.5, -14.5)),
    "crop":          ((0.03, 0.05, 0.07), (-10.5, -16.5)),
    "grass":         ((0.04, 0.07, 0.07), (-12.5, -18.5)),
    "dry grass":     ((0.03, 0.06, 0.08), (-14.5, -20.0)),
    "shrub":         ((0.08, 0.09, 0.07), (-11.5, -17.5)),
    "soil":          ((0.02, 0.05, 0.08), (-11.5, -21.5)),
    "dark soil":     ((0.03, 0.05, 0.08), (-10.0, -20.5)),
    "red soil":      ((0.03, 0.06, 0.08), (-13.0, -23.0)),
    "sand":          ((0.006, 0.015, 0.04), (-18.5, -27.0)),
    "bright sand":   ((0.006, 0.015, 0.04), (-20.0, -28.0)),
    "rock":          ((0.08, 0.12, 0.1), (-9.5, -17.0)),
    "dark rock":     ((0.08, 0.12, 0.12), (-9.0, -16.5)),
    "pale rock":     ((0.06, 0.08, 0.08), (-11.0, -19.0)),
    "salt":          ((0.01, 0.03, 0.07), (-16.5, -26.0)),
    "burnt":         ((0.08, 0.1, 0.1), (-11.0, -19.5)),
    "bog":           ((0.07, 0.12, 0.1), (-11.5, -17.5)),
    "water":         ((0.008, 0.015, 0.05), (-20.0, -27.5)),
    "green water":   ((0.01, 0.03, 0.1), (-19.0, -27.0)),
    "turbid water":  ((0.008, 0.04, 0.14), (-18.5, -27.0)),
    "lagoon":        ((0.02, 0.08, 0.18), (-19.5, -27.5)),
    "glint":         ((0.05, 0.1, 0.25), (-22.0, -29.0)),
    "town":          ((0.22, 0.14, 0.06), (-4.5, -11.5)),
    "asphalt":       ((0.18, 0.1, 0.05), (-16.0, -24.0)),
    "bright roof":   ((0.2, 0.12, 0.05), (1.0, -6.5)),
    "red roof":      ((0.18, 0.1, 0.05), (-3.5, -11.0)),
    "snow":          ((0.004, 0.01, 0.02), (-11.0, -18.0)),
    "old snow":      ((0.01, 0.025, 0.05), (-15.0, -22.5)),
    "dirty snow":    ((0.06, 0.1, 0.1), (-13.5, -21.0)),
    "ice":           ((0.03, 0.07, 0.1), (-9.5, -16.0)),
    "sea ice":       ((0.02, 0.05, 0.09), (-13.0, -21.5)),
}  # fmt: skip
TEXTURE = {name: texture for name, (texture, _) in _TEXTURE_AND_BACKSCATTER.items()}
"""Relative brightness variation of each surface: grainy, medium and coarse texture (standard deviations)."""
BACKSCATTER_DB = {name: means for name, (_, means) in _TEXTURE_AND_BACKSCATTER.items()}
"""Mean C-band backscatter of each surface in decibel, VV and VH, level and dry."""

WATER_CLOUD: Spectrum = (.98, .98, .97, .98, .99, 1.0, 1.0, 1.02, 1.02, .99, .90, .78, .60)  # fmt: skip
"""Reflectance of an endlessly thick cloud of droplets, relative to a white reflector."""

ICE_CLOUD: Spectrum = (.98, .98, .97, .98, .98, .98, .98, .98, .97, .93, .85, .48, .34)  # fmt: skip
"""The same of a cloud of ice crystals, which absorb more in the shortwave infrared."""

RAYLEIGH: Spectrum = (.105, .072, .040, .020, .016, .013, .0105, .008, .007, .005, .0005, .0006, .0002)  # fmt: skip
"""Path reflectance of clean air under a sun at 50 degrees."""

OZONE: Spectrum = (.995, .985, .935, .965, .985, .99, .995, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # fmt: skip
"""Two-way transmission of the ozone layer, which lies above all clouds, under a sun at 50 degrees."""

_AIR_MASS_AT_50_DEGREES = 1.305

VAPOUR_DEPTH: Spectrum = (0.0, 0.0, 0.0, .005, .03, .03, .01, .05, .01, 1.0, 6.5, .02, .04)  # fmt: skip
"""Two-way absorption depth of an ordinary column of water vapour; what lies under it is dimmed by exp(-depth)."""

SKY_LIGHT: Spectrum = (.42, .34, .24, .16, .14, .125, .11, .095, .09, .08, .05, .035, .02)  # fmt: skip
"""Share of the light on the ground that comes from the blue sky under a sun at 50 degrees: what is left in a shadow."""

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


def select(values: Sequence[float], bands: Sequence[str]) -> np.ndarray:
    """Picks the named bands out of a spectrum, (C,) float32."""
    return np.asarray(values, np.float32)[list(band_positions(tuple(bands)))]


def signatures(surfaces: Sequence[str]) -> np.ndarray:
    """Spectra of surfaces, (surfaces, 13) float32 reflectance."""
    return np.array([SURFACES[name] for name in surfaces], np.float32)


def aerosol(bands: Sequence[str]) -> np.ndarray:
    """Scattering (C,) of small aerosol particles relative to 550 nm, by Ångström's law with exponent 1.3."""
    wavelengths = select([float(w) for w in WAVELENGTHS_NM], bands)
    return np.asarray((wavelengths / 550.0) ** np.float32(_AEROSOL_EXPONENT))


def ozone(bands: Sequence[str], air_mass: float, column: float = 1.0) -> np.ndarray:
    """Two-way transmission (C,) of the ozone layer: a low sun shines through more of it, which dims green and red.

    ``air_mass`` is the length of the sunlight's way through the air relative to the vertical, 1 / sin(elevation);
    ``column`` is ozone relative to an ordinary column of 300 Dobson units.
    """
    return np.asarray(select(OZONE, bands) ** np.float32(column * (1 + air_mass) / (1 + _AIR_MASS_AT_50_DEGREES)))


def path_reflectance(bands: Sequence[str], air_mass: float) -> np.ndarray:
    """Light (C,) that clean air scatters into the sensor, relative to the light that falls on level ground.

    ``air_mass`` is as in :func:`ozone`.
    """
    growth = 0.45 + 0.55 * air_mass / _AIR_MASS_AT_50_DEGREES
    return np.asarray(select(RAYLEIGH, bands) * np.float32(growth))


def sky_light(bands: Sequence[str], air_mass: float, air: float = 1.0) -> np.ndarray:
    """Share (C,) of the light that comes from the sky and not straight from the sun; a low sun leaves most to the sky.

    ``air_mass`` is as in :func:`ozone`; ``air`` is the share of the atmosphere above: 1 on the ground, about a half on
    top of clouds.
    """
    straight = 1 - select(SKY_LIGHT, bands)
    return np.asarray(1 - straight ** np.float32(air * air_mass / _AIR_MASS_AT_50_DEGREES))
