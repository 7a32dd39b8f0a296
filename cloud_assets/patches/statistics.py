"""Statistics of each band over the valid pixels of a store, streamed, and the preprocessing fitted to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.errors import InvalidRecipe, NoUsablePatches, UnknownBand
from cloud_assets.patches.preprocessing import Normalisation, Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore, Role

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_FLOAT_BINS = 1 << 14
_FLOAT_RANGE = (-100.0, 100.0)
"""Range of the histogram of floating-point roles, wide enough for decibels."""


class BandStatistics(BaseModel):
    """Statistics of each band in physical units; every tuple has one entry a band.

    Attributes:
        bands: Band names.
        unit: Physical unit (reflectance, dB).
        pixels: Number of valid pixels.
        mean: Mean.
        std: Standard deviation.
        percentiles: By percentage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands: tuple[str, ...]
    unit: str
    pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[int, tuple[float, ...]]


def band_statistics(
    store: PatchStore,
    indices: npt.NDArray[np.int64] | None = None,
    *,
    role: str = IMAGES,
    clip: tuple[float, float] | None = None,
) -> BandStatistics:
    """Computes statistics in one pass with memory for a few patches.

    Digital numbers are counted in histograms: exactly for integers, in bins of 0.012 dB for radar. So sums over very
    many pixels lose no precision.

    Args:
        store: The patches.
        indices: Rows to look at, usually those of the training split; default: all.
        role: The array to look at.
        clip: Physical range that values are clipped to first, as the preprocessing will.

    Raises:
        NoUsablePatches: If no pixel is valid.
    """
    described = store.roles[role]
    instrument = INSTRUMENTS[described.instrument]
    levels = _levels(instrument, np.dtype(described.dtype))
    counts = np.zeros((len(described.bands), len(levels)), np.int64)
    array = store.array(role)
    for row in range(len(store)) if indices is None else indices:
        patch = array[row]
        valid = instrument.valid(patch)
        for band, numbers in enumerate(patch):
            counts[band] += np.bincount(_level_numbers(numbers[valid]), minlength=len(levels))
    pixels = int(counts[0].sum())
    if pixels == 0:
        raise NoUsablePatches(f"no valid pixel among the chosen patches of {store.directory}: look at the splits.")
    physical = levels if clip is None else np.clip(levels, *clip)
    mean = counts @ physical / pixels
    variance = (counts * (physical - mean[:, None]) ** 2).sum(axis=1) / pixels
    ranks = {share: np.argmax(counts.cumsum(axis=1) >= share / 100 * pixels, axis=1) for share in PERCENTILES}
    return BandStatistics(
        bands=described.bands,
        unit=instrument.unit,
        pixels=pixels,
        mean=_floats(mean),
        std=_floats(np.sqrt(variance)),
        percentiles={share: _floats(physical[rank]) for share, rank in ranks.items()},
    )


def fitted_preprocessing(
    store: PatchStore,
    indices: npt.NDArray[np.int64] | None = None,
    *,
    role: str = IMAGES,
    bands: Sequence[str] | None = None,
    normalisation: Normalisation = "range",
    clip: tuple[float, float] = (0.0, 0.4),
    scaled_to: tuple[float, float] = (0.0, 1.0),
    texture: bool = False,
) -> Preprocessing:
    """The preprocessing of a store's role; ``standardise`` takes its statistics from the given patches.

    Args:
        store: The patches.
        indices: Rows of the training split; default: all.
        role: The array that will be preprocessed.
        bands: Bands to use, named as in the store; default: all of the role's.
        normalisation: As in :class:`Preprocessing`.
        clip: Physical range that is kept.
        scaled_to: What ``range`` maps it onto.
        texture: As in :class:`Preprocessing`.

    Raises:
        UnknownBand: If the store does not hold one of the bands.
        NoUsablePatches: If no pixel is valid.
        InvalidRecipe: If these values do not go together, or not with the store's bands.
    """
    described = store.roles[role]
    chosen = band_positions(described, bands)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if normalisation == "standardise":
        statistics = band_statistics(store, indices, role=role, clip=clip)
        mean = tuple(statistics.mean[band] for band in chosen)
        std = tuple(max(statistics.std[band], 1e-6) for band in chosen)
    try:
        return Preprocessing(
            instrument=described.instrument,
            bands=tuple(described.bands[band] for band in chosen),
            nodata=described.nodata,
            clip=clip,
            normalisation=normalisation,
            scaled_to=scaled_to,
            mean=mean,
            std=std,
            texture=texture,
        )
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise InvalidRecipe(
            f"the patches in {store.directory} (role {role}) cannot be preprocessed as the recipe says: {problems} "
            "Correct the recipe."
        ) from error


def band_positions(role: Role, bands: Sequence[str] | None) -> list[int]:
    """Channel numbers of bands in a role, which may be asked for by native or common name.

    Raises:
        UnknownBand: If the role does not hold one of them.
    """
    if bands is None:
        return list(range(len(role.bands)))
    instrument = INSTRUMENTS[role.instrument]
    held = [instrument.find(band).name for band in role.bands]
    positions = []
    for band in bands:
        name = instrument.find(band).name
        if name not in held:
            raise UnknownBand(band, "this patch store", role.bands)
        positions.append(held.index(name))
    return positions


def _levels(instrument: Instrument, dtype: np.dtype[Any]) -> npt.NDArray[np.float64]:
    """Physical value of each bin of the histogram."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return instrument.to_physical(np.arange(limits.min, limits.max + 1)).astype(np.float64)
    low, high = _FLOAT_RANGE
    return np.asarray(low + (np.arange(_FLOAT_BINS) + 0.5) * ((high - low) / _FLOAT_BINS))


def _level_numbers(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if np.issubdtype(numbers.dtype, np.integer):
        return numbers.astype(np.int64) - np.iinfo(numbers.dtype).min
    low, high = _FLOAT_RANGE
    return np.clip((numbers - low) * (_FLOAT_BINS / (high - low)), 0, _FLOAT_BINS - 1).astype(np.int64)


def _floats(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
