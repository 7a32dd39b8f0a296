"""Scaling from the numbers of a raster file to physical units, where no metadata file has it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.datasets.scene import RasterBand
from cloud_assets.errors import InvalidRecipe, InvalidScene
from cloud_assets.imagery.formats.scene_source import SceneBand

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_SAMPLED_SIDE = 256
BRIGHTEST_REFLECTANCE = 3.0
"""Reflectance above which hardly a pixel lies: floating-point numbers below are reflectance itself."""
_SMALLEST_DN = 20.0  # floating-point numbers above are digital numbers
_HLS = re.compile(r"HLS\.[LS]30\.")
SENTINEL2_OFFSET_SINCE = (4, 0)
SENTINEL2_OFFSET = -1000.0  # digital numbers, of Sentinel-2 products from processing baseline 04.00 on


@dataclass(frozen=True)
class Scaling:
    """``physical = number * scale + offset``, as a user states it; None: as found."""

    scale: float | None = None
    offset: float | None = None


def stated_by_user(scale: float | None, offset: float | None) -> Scaling | None:
    """The scaling of a command line or a run configuration.

    Raises:
        InvalidRecipe: If the offset must have been given in digital numbers.
    """
    if offset is not None and abs(offset) > 1:
        raise InvalidRecipe(f"an offset of {offset:g} is no reflectance: write -0.1 for -1000 numbers of Sentinel-2.")
    return None if scale is None and offset is None else Scaling(scale, offset)


@dataclass(frozen=True)
class ScaledBand(SceneBand):
    """One band of a file, and how its scaling was found out."""

    notes: tuple[str, ...] = ()  # what was assumed, for the user
    is_harmonised: bool = False  # whether the numbers show that an offset which is stated was taken off already


def band_scaling(
    raster: "DatasetReader", band: RasterBand, profile: Instrument, given: Scaling | None, names: Sequence[str]
) -> ScaledBand:
    """Finds out how a band is scaled: as the user states, by the file's tags, or by its name and numbers.

    The names of the file and of what holds it may tell the processing baseline.
    """
    nodata = raster.nodatavals[band.index - 1]
    if given is not None and (given.scale is not None or given.offset is not None):
        return ScaledBand(band, given.scale, given.offset, nodata)
    scale, offset = raster.scales[band.index - 1], raster.offsets[band.index - 1]
    if (scale, offset) != (1.0, 0.0):
        return ScaledBand(band, scale, offset, nodata)
    if any(_HLS.search(name) for name in names):
        return ScaledBand(band, 1e-4, 0.0, -9999 if nodata is None else nodata)
    if profile.unit != "reflectance":
        return ScaledBand(band, None, None, nodata)
    if np.issubdtype(np.dtype(raster.dtypes[band.index - 1]), np.floating):
        return _floating(raster, band, profile, nodata)
    if profile.name.startswith("sentinel2") and _states_offset(raster, names):
        if _goes_below(raster, band.index, nodata, -SENTINEL2_OFFSET):  # harmonised meanwhile
            note = "The numbers go below 1000 although the processing baseline is 04.00 or later: read as harmonised."
            return ScaledBand(band, None, 0.0, nodata, (note,), is_harmonised=True)
        note = "The processing baseline is 04.00 or later: an offset of -1000 was applied (other: --offset)."
        return ScaledBand(band, None, SENTINEL2_OFFSET * profile.scale, nodata, (note,))
    return ScaledBand(band, None, None, nodata)


def stated_scaling(
    raster: "DatasetReader", band: RasterBand, profile: Instrument, stated: Mapping[str, float], is_harmonised: bool
) -> ScaledBand:
    """The scaling that a catalogue states, but for offsets of Sentinel-2 that the numbers do not have.

    Catalogues state the offset of processing baseline 04.00 also for files whose numbers were harmonised, and their
    own flag for it (``is_harmonised``) is wrong at times (Element84/earth-search issues 66 and 71), so the numbers
    decide. Stated are ``scale``, ``offset``, ``nodata``.
    """
    nodata = raster.nodatavals[band.index - 1] if stated.get("nodata") is None else float(stated["nodata"])  # "nan"
    scale, offset = stated.get("scale", profile.scale), stated.get("offset", 0.0)
    may_lack_it = profile.name.startswith("sentinel2") and offset < 0
    if may_lack_it and (is_harmonised or _goes_below(raster, band.index, nodata, -offset / scale)):
        note = f"The catalogue states an offset of {offset:g}, which the numbers do not have: read as harmonised."
        return ScaledBand(band, scale, 0.0, nodata, (note,), is_harmonised=True)
    return ScaledBand(band, scale, offset, nodata)


def scaled_bands(found: Mapping[str, ScaledBand]) -> tuple[dict[str, SceneBand], list[str]]:
    """Bands of one product, and what was assumed: harmonised if one of them shows it, for bright bands cannot."""
    shown = next((band for band in found.values() if band.is_harmonised), None)
    bands = {
        name: SceneBand(band.raster, band.scale, (shown or band).offset, band.nodata) for name, band in found.items()
    }
    return bands, list(dict.fromkeys(note for band in found.values() for note in (shown or band).notes))


def _floating(raster: "DatasetReader", band: RasterBand, profile: Instrument, nodata: float | None) -> ScaledBand:
    """Reflectance or digital numbers as floating point; 0 is missing, for no ground reflects nothing at all."""
    if not np.issubdtype(np.dtype(profile.dtype), np.integer):
        return ScaledBand(band, None, None, nodata)
    sample = sampled(raster, band.index, nodata)
    high = float(np.percentile(sample, 99)) if sample.size else 0.0
    missing = 0.0 if nodata is None else nodata
    if high <= BRIGHTEST_REFLECTANCE:
        return ScaledBand(band, 1.0, 0.0, missing, ("Floating-point numbers were read as reflectance (1 is white).",))
    if high >= _SMALLEST_DN * 10:
        return ScaledBand(band, None, None, missing, (f"Floating-point numbers were read as those of {profile.name}.",))
    raise InvalidScene(
        f"{raster.name}: band {band.index} holds floating-point numbers up to about {high:.3g}, neither reflectance (0 "
        f"to 1) nor digital numbers of {profile.name}. Say how they are scaled: --scale 0.01 --offset 0 for percent."
    )


def _states_offset(raster: "DatasetReader", names: Sequence[str]) -> bool:
    tags = {key.upper(): str(value) for key, value in raster.tags().items()}
    stated = tags.get("PROCESSING_BASELINE") or tags.get("S2:PROCESSING_BASELINE") or ""
    texts = [f"_N{stated}", *names, tags.get("PRODUCT_URI", ""), tags.get("PRODUCT_ID", "")]
    found = [match for text in texts if (match := re.search(r"_N(\d{2})\.?(\d{2})(?![0-9])", text))]
    return any((int(match[1]), int(match[2])) >= SENTINEL2_OFFSET_SINCE for match in found)


def _goes_below(raster: "DatasetReader", index: int, nodata: float | None, offset: float) -> bool:
    """Whether the numbers of a band are too low to have been raised by an offset."""
    sample = sampled(raster, index, nodata)
    return bool(sample.size) and float(np.percentile(sample, 1)) < 0.9 * offset


def sampled(raster: "DatasetReader", index: int, nodata: float | None = None) -> npt.NDArray[np.float64]:
    """(N,) some of a band's numbers that are neither missing nor 0."""
    shape = min(_SAMPLED_SIDE, raster.height), min(_SAMPLED_SIDE, raster.width)
    values = raster.read(index, out_shape=shape).astype(np.float64)
    there = np.isfinite(values) & (values != 0)
    if nodata is not None and np.isfinite(nodata):
        there &= values != nodata
    sample: npt.NDArray[np.float64] = values[there]
    return sample
