"""Bands by name, instruments with the meaning of their digital numbers, and the cloud codes of masks.

Band names are an instrument's own ("B04", "VV"); common names are those of the STAC electro-optical extension
(https://github.com/stac-extensions/eo), so that "red" means the same on every sensor.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidRecipe, UnknownBand

CLEAR: Final = 0
THICK_CLOUD: Final = 1
THIN_CLOUD: Final = 2
CLOUD_SHADOW: Final = 3
UNLABELLED: Final = 255
CLASS_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {CLEAR: "clear", THICK_CLOUD: "thick cloud", THIN_CLOUD: "thin cloud", CLOUD_SHADOW: "cloud shadow"}
)
"""The canonical cloud codes of every mask inside the project; 255 is unlabelled or padding."""


@dataclass(frozen=True)
class Band:
    """One band of an instrument."""

    name: str  # the instrument's own name, such as "B04" or "VV"
    common_name: str
    """Name in the STAC electro-optical extension, such as "red"; for radar the polarisation in lower case."""
    wavelength_nm: float  # centre wavelength in nanometres
    resolution_m: float | None  # ground sampling distance in metres; None where it depends on the picture


@dataclass(frozen=True)
class Instrument:
    """How an instrument's digital numbers (DN) are to be read: ``physical = DN * scale + offset``."""

    name: str  # key in :data:`INSTRUMENTS`
    bands: tuple[Band, ...]  # in the order of the product's own files
    unit: str  # what the physical value is: "reflectance" (top of atmosphere or surface, 0-1 and a little more) or "dB"
    scale: float  # physical units a digital number
    offset: float  # physical units, as STAC's ``raster:bands.offset``
    nodata: float | None  # digital number of a pixel that was not observed; NaN for floating-point products
    saturated: float | None  # digital number of a saturated detector, where the product reserves one
    dtype: str  # native data type of the product's files
    is_sun_corrected: bool = True
    """Whether reflectance was divided by the sine of the sun's elevation, so that white is white however low it is."""

    @property
    def level(self) -> str:
        """Where the signal is from: "surface" or "top of atmosphere"; for radar "backscatter"."""
        if self.unit != "reflectance":
            return "backscatter"
        return "surface" if self.name.endswith(("_l2", "_l2a")) else "top of atmosphere"

    @property
    def names(self) -> tuple[str, ...]:
        """The instrument's own band names, in file order."""
        return tuple(band.name for band in self.bands)

    def find(self, name: str) -> Band:
        """Looks a band up by its own name ("B04", also "B4") or by its common name ("red").

        Raises:
            UnknownBand: The instrument has no such band; the message lists those that it has.
        """
        wanted = name.lower()
        for band in self.bands:
            if wanted in (band.name.lower(), band.common_name):
                return band
        short = _without_leading_zero(wanted)
        for band in self.bands:
            # Sensors with one near-infrared band go by "nir" in some catalogues and by "nir08" in others.
            if short == _without_leading_zero(band.name.lower()) or (wanted == "nir08" and band.common_name == "nir"):
                return band
        raise UnknownBand(name, self.name, [f"{band.name} ({band.common_name})" for band in self.bands])

    def to_physical(self, dn: npt.ArrayLike, offset: float | None = None) -> npt.NDArray[np.float32]:
        """Turns digital numbers into physical units.

        Nodata is converted like any other number: ask :meth:`valid` which pixels count.

        Args:
            dn: Digital numbers, any shape.
            offset: Offset of this very product in physical units, where its metadata gives one: Sentinel-2 products of
                processing baseline 04.00 and later have ``RADIO_ADD_OFFSET`` = -1000 DN, which is -0.1. Default: the
                instrument's own.

        Returns:
            float32 array of the same shape, in :attr:`unit`.

        Raises:
            InvalidRecipe: The offset is so large that it must have been given in digital numbers.
        """
        values = np.asarray(dn).astype(np.float32)
        values *= np.float32(self.scale)
        values += np.float32(self._offset(offset))
        return values

    def to_dn(self, physical: npt.ArrayLike, offset: float | None = None) -> npt.NDArray[np.generic]:
        """Turns physical units into native digital numbers, the inverse of :meth:`to_physical`.

        Integers are rounded and clipped so that a finite value never becomes nodata or saturated; what is not finite
        was not observed and becomes nodata.
        """
        values = (np.asarray(physical, dtype=np.float64) - self._offset(offset)) / self.scale
        native = np.dtype(self.dtype)
        if not np.issubdtype(native, np.integer):
            return values.astype(native)
        low = 0 if self.nodata is None else int(self.nodata) + 1
        high = int(np.iinfo(native).max if self.saturated is None else self.saturated - 1)
        finite = np.isfinite(values)
        numbers = np.clip(np.rint(np.where(finite, values, low)), low, high).astype(native)
        return np.where(finite, numbers, native.type(self.nodata or 0))

    def valid(self, dn: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
        """Finds the pixels (…, H, W) that were observed: finite in every band and not nodata in all of them.

        One band at zero proves nothing (cirrus over dry air, an absent band of a product), so a pixel of digital
        numbers (…, C, H, W) is nodata only where every band has it.
        """
        seen = np.isfinite(dn).all(axis=-3) if np.issubdtype(dn.dtype, np.floating) else None
        if self.nodata is not None and np.isfinite(self.nodata):
            observed: npt.NDArray[np.bool_] = (dn != self.nodata).any(axis=-3)
            return observed if seen is None else observed & seen
        return np.ones(dn.shape[:-3] + dn.shape[-2:], dtype=bool) if seen is None else seen

    def _offset(self, offset: float | None) -> float:
        if offset is None:
            return self.offset
        if self.unit == "reflectance" and abs(offset) > 1:
            raise InvalidRecipe(
                f"An offset of {offset} is no reflectance: offsets are in physical units, so Sentinel-2's "
                f"RADIO_ADD_OFFSET of -1000 DN is {-1000 * self.scale:g}. Divide it by the quantification value."
            )
        return offset


def vegetation_positions(instrument: Instrument, bands: Sequence[str]) -> tuple[int, int] | None:
    """Positions of red and near infrared among some bands, for NDVI; None if one is missing."""
    own = [instrument.find(band).name for band in bands]
    wanted = [band.name for band in instrument.bands if band.common_name in ("red", "nir")]
    if len(wanted) != 2 or not set(wanted) <= set(own):
        return None
    red, infrared = (own.index(instrument.find(name).name) for name in ("red", "nir"))
    return red, infrared


def _without_leading_zero(name: str) -> str:
    return re.sub(r"^b0+(?=\d)", "b", name)


def _bands(*rows: tuple[str, str, float, float | None]) -> tuple[Band, ...]:
    return tuple(Band(*row) for row in rows)


_SENTINEL2 = _bands(
    ("B01", "coastal", 442.7, 60.0),
    ("B02", "blue", 492.7, 10.0),
    ("B03", "green", 559.8, 10.0),
    ("B04", "red", 664.6, 10.0),
    ("B05", "rededge071", 704.1, 20.0),
    ("B06", "rededge075", 740.5, 20.0),
    ("B07", "rededge078", 782.8, 20.0),
    ("B08", "nir", 832.8, 10.0),
    ("B8A", "nir08", 864.7, 20.0),
    ("B09", "nir09", 945.1, 60.0),
    ("B10", "cirrus", 1373.5, 60.0),
    ("B11", "swir16", 1613.7, 20.0),
    ("B12", "swir22", 2202.4, 20.0),
)
_SENTINEL2_SURFACE = tuple(band for band in _SENTINEL2 if band.name != "B10")
_LANDSAT8_SURFACE = _bands(
    ("B1", "coastal", 443.0, 30.0),
    ("B2", "blue", 482.0, 30.0),
    ("B3", "green", 561.4, 30.0),
    ("B4", "red", 654.6, 30.0),
    ("B5", "nir", 864.7, 30.0),
    ("B6", "swir16", 1608.9, 30.0),
    ("B7", "swir22", 2200.7, 30.0),
)
_LANDSAT8 = (*_LANDSAT8_SURFACE, Band("B8", "pan", 589.5, 15.0), Band("B9", "cirrus", 1373.4, 30.0))
# Landsat 4 and 5 Thematic Mapper, and the Enhanced Thematic Mapper Plus of Landsat 7 (Chander et al. 2009, table 1).
_TM = _bands(
    ("B1", "blue", 485.0, 30.0),
    ("B2", "green", 569.0, 30.0),
    ("B3", "red", 660.0, 30.0),
    ("B4", "nir", 840.0, 30.0),
    ("B5", "swir16", 1676.0, 30.0),
    ("B7", "swir22", 2223.0, 30.0),
)
_ETM_SURFACE = _bands(
    ("B1", "blue", 483.0, 30.0),
    ("B2", "green", 560.0, 30.0),
    ("B3", "red", 662.0, 30.0),
    ("B4", "nir", 835.0, 30.0),
    ("B5", "swir16", 1648.0, 30.0),
    ("B7", "swir22", 2206.0, 30.0),
)
_ETM = (*_ETM_SURFACE, Band("B8", "pan", 706.0, 15.0))
_RADAR = _bands(("VV", "vv", 55.466e6, 10.0), ("VH", "vh", 55.466e6, 10.0))
_PICTURE = _bands(("red", "red", 660.0, None), ("green", "green", 560.0, None), ("blue", "blue", 485.0, None))

_PREVIEW_WHITE: Final = 0.4  # the reflectance at which the project's 8-bit previews are white

INSTRUMENTS: Final[Mapping[str, Instrument]] = MappingProxyType(
    {
        instrument.name: instrument
        for instrument in (
            # Harmonised: products of baseline 04.00 and later carry an offset of -0.1, read from their metadata.
            Instrument("sentinel2_l1c", _SENTINEL2, "reflectance", 1e-4, 0.0, 0, 65535, "uint16"),
            Instrument("sentinel2_l2a", _SENTINEL2_SURFACE, "reflectance", 1e-4, 0.0, 0, 65535, "uint16"),
            # Reflective bands only, before the sun-angle correction (Landsat 8 Data Users Handbook, section 5.2).
            Instrument("landsat8_l1", _LANDSAT8, "reflectance", 2e-5, -0.1, 0, 65535, "uint16", is_sun_corrected=False),
            # The same numbers after it: scenes whose metadata tell the height of the sun.
            Instrument("landsat8_toa", _LANDSAT8, "reflectance", 2e-5, -0.1, 0, 65535, "uint16"),
            # Level 1 squeezed into 8 bits, white for white: 255 stands for 65535.
            Instrument(
                "landsat8_l1_8bit", _LANDSAT8, "reflectance", 2e-5 * 257, -0.1, 0, None, "uint8", is_sun_corrected=False
            ),
            Instrument("landsat8_l2", _LANDSAT8_SURFACE, "reflectance", 2.75e-5, -0.2, 0, 65535, "uint16"),
            # Level 1 comes in 8 bits with a scale of its own a scene; readers hand out Landsat 8's numbers.
            Instrument("landsat_tm_l1", _TM, "reflectance", 2e-5, -0.1, 0, 65535, "uint16", is_sun_corrected=False),
            Instrument("landsat_tm_toa", _TM, "reflectance", 2e-5, -0.1, 0, 65535, "uint16"),
            Instrument("landsat_tm_l2", _TM, "reflectance", 2.75e-5, -0.2, 0, 65535, "uint16"),
            Instrument("landsat_etm_l1", _ETM, "reflectance", 2e-5, -0.1, 0, 65535, "uint16", is_sun_corrected=False),
            Instrument("landsat_etm_toa", _ETM, "reflectance", 2e-5, -0.1, 0, 65535, "uint16"),
            Instrument("landsat_etm_l2", _ETM_SURFACE, "reflectance", 2.75e-5, -0.2, 0, 65535, "uint16"),
            # Backscatter is kept in decibels, as the analysis-ready products give it.
            Instrument("sentinel1_grd", _RADAR, "dB", 1.0, 0.0, float("nan"), None, "float32"),
            Instrument("rgb_8bit", _PICTURE, "reflectance", _PREVIEW_WHITE / 255, 0.0, 0, None, "uint8"),
        )
    }
)
"""Every instrument the project reads, by key."""
