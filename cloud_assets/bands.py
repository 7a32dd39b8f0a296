"""Bands by name, instruments with the meaning of their digital numbers, and the cloud codes of masks.

Band names are an instrument's own ("B04", "VV"); common names are those of the STAC electro-optical extension
(https://github.com/stac-extensions/eo), so that "red" means the same on every sensor.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
import yaml

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


def cloudy(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Where cloud codes are thick or thin cloud."""
    return np.asarray((codes == THICK_CLOUD) | (codes == THIN_CLOUD))


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
    file_names: tuple[str, ...] = ()  # regular expressions of how the space agencies' names of its files begin

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
                baseline 04.00 and later have ``RADIO_ADD_OFFSET`` = -1000 DN, -0.1. Default: the instrument's.

        Returns:
            float32 array of the same shape, in :attr:`unit`.

        Raises:
            InvalidRecipe: The offset is so large that it must have been given in digital numbers.
        """
        if offset is not None and self.unit == "reflectance" and abs(offset) > 1:
            raise InvalidRecipe(
                f"An offset of {offset} is no reflectance: offsets are in physical units, so Sentinel-2's "
                f"RADIO_ADD_OFFSET of -1000 DN is {-1000 * self.scale:g}. Divide it by the quantification value."
            )
        values = np.asarray(dn).astype(np.float32)
        values *= np.float32(self.scale)
        values += np.float32(self.offset if offset is None else offset)
        return values

    def to_dn(self, physical: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """Turns physical units into native digital numbers, the inverse of :meth:`to_physical`.

        Integers are rounded and clipped so that a finite value never becomes nodata or saturated; others become nodata.
        """
        values = (np.asarray(physical, dtype=np.float64) - self.offset) / self.scale
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


def positions_of(instrument: Instrument, bands: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Positions of wanted bands among some bands; None if one is missing."""
    own = [instrument.find(band).name for band in bands]
    try:
        return [own.index(instrument.find(name).name) for name in wanted]
    except (UnknownBand, ValueError):
        return None


def vegetation_positions(instrument: Instrument, bands: Sequence[str]) -> tuple[int, int] | None:
    """Positions of red and near infrared among some bands, for NDVI; None if one is missing."""
    found = positions_of(instrument, bands, ("red", "nir"))
    return None if found is None else (found[0], found[1])


def _without_leading_zero(name: str) -> str:
    return re.sub(r"^b0+(?=\d)", "b", name)


_TABLES = yaml.load(files(__package__).joinpath("bands.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)


def _instruments() -> Iterator[Instrument]:
    for name, row in _TABLES["instruments"].items():
        rows, absent, file_names = _TABLES["bands"][row.pop("bands")], row.pop("without", ()), row.pop("file_names", ())
        bands = tuple(Band(*band) for band in rows if band[0] not in absent)
        yield Instrument(name, bands, file_names=tuple(file_names), **row)


INSTRUMENTS: Final[Mapping[str, Instrument]] = MappingProxyType({each.name: each for each in _instruments()})
"""Every instrument the project reads, by key; the tables are in ``bands.yaml``."""
SPELLINGS: Final[Mapping[str, str]] = MappingProxyType(_TABLES["spellings"])
"""Other names of bands -> their common names."""
