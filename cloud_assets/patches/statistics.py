"""What the pixels of a store say: statistics of each band, the preprocessing fitted to them, their plausibility."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.errors import InvalidRecipe, NoUsablePatches, UnknownBand
from cloud_assets.patches.preprocessing import Normalisation, Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore, Role

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_FLOAT_BINS = 1 << 14
_FLOAT_RANGE = (-100.0, 100.0)  # range of the histogram of floating-point roles, wide enough for decibels

_GROUPS, _PATCHES_A_GROUP = 200, 4
_MOST_CLOUD = 50.0
"""Patches with more cloud than this, in percent, are not looked at: a closed cover is bright in every band."""
_STEP = 8  # every eighth pixel of every eighth row is looked at
_DARK = 1  # percentile that counts as a group's dark level
OFFSET: Final = 0.1  # Sentinel-2's offset since processing baseline 04.00, in reflectance: 1000 digital numbers
_JUST_BELOW, _FLOOR = 0.095, 0.005
_FEWEST_GROUPS = 5
_MOST_WITHOUT_DARK = 0.1
"""So few groups with a dark level below the offset occur only if it was not taken off: in real data half have one."""
_CLIPPED_SHARE: Final[Mapping[str, float]] = {"sentinel2_l1c": 0.1, "sentinel2_l2a": 0.5}
"""Share of groups that may hold black visible bands: at the top of the atmosphere air alone is brighter."""
_LIMITS: Final[Mapping[str, tuple[float, float]]] = {"reflectance": (-0.25, 2.0), "dB": (-60.0, 30.0)}
_MOST_OUTSIDE = 0.01


class BandStatistics(BaseModel, frozen=True, extra="forbid"):
    """Statistics of each band in physical units; every tuple has one entry a band."""

    bands: tuple[str, ...]
    unit: str  # reflectance, dB
    pixels: int  # number of valid ones
    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[int, tuple[float, ...]]  # by percentage


def band_statistics(
    store: PatchStore,
    indices: npt.NDArray[np.int64] | None = None,
    *,
    role: str = IMAGES,
    clip: tuple[float, float] | None = None,
) -> BandStatistics:
    """Computes statistics of some rows (default: all) in one pass with memory for a few patches.

    Digital numbers are counted in histograms: exactly for integers, in bins of 0.012 dB for radar. So sums over very
    many pixels lose no precision. ``clip`` is the physical range that values are clipped to first.

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
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(variance).tolist()),
        percentiles={share: tuple(physical[rank].tolist()) for share, rank in ranks.items()},
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
    optional: tuple[str, ...] = (),
) -> Preprocessing:
    """The preprocessing of some bands (default: all) of a store's role; settings as in :class:`Preprocessing`.

    ``standardise`` takes its statistics from the rows ``indices``, those of the training split (default: all).

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
            optional=optional,
            stand_ins=_stand_ins(optional, INSTRUMENTS[described.instrument], [described.bands[one] for one in chosen]),
        )
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise InvalidRecipe(
            f"the patches in {store.directory} (role {role}) cannot be preprocessed as the recipe says: {problems} "
            "Correct the recipe."
        ) from error


def _stand_ins(optional: tuple[str, ...], instrument: Instrument, bands: Sequence[str]) -> dict[str, str]:
    """For each of some bands (common names) the nearest other one in wavelength."""
    lengths = {band.common_name: band.wavelength_nm for band in map(instrument.find, bands)}
    others = {name: [one for one in lengths if one != name] for name in optional if {*lengths} > {name}}
    return {name: min(there, key=lambda one: abs(lengths[one] - lengths[name])) for name, there in others.items()}


def band_positions(role: Role, bands: Sequence[str] | None) -> list[int]:
    """Channel numbers of bands in a role, which may be asked for by native or common name; all if None.

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


def implausible_values(store: PatchStore) -> list[str]:
    """What is wrong with a store's pixel values, in words; a look at a thousandth of the pixels.

    Sentinel-2 products since January 2022 (baseline 04.00) carry an offset of 1000 digital numbers, which readers have
    to take off. Where that was forgotten nothing is darker than 0.1; where it was done twice, shadows and vegetation
    are clipped to black in the visible bands, which air never is at the top of the atmosphere. In stores with the
    cirrus band a forgotten offset is detected group by group, as the lower atmosphere is black there.

    Returns:
        One sentence a problem; empty when all is well.
    """
    problems = []
    for name, role in store.roles.items():
        pixels = _pixels_by_group(store, name)
        if pixels:
            problems += [f"{name}: {problem}" for problem in _problems(role, pixels)]
    return problems


def class_shares(store: PatchStore) -> dict[str, float]:
    """Share of each class that a store's patches are labelled with.

    Of image labels the share of patches; of masks ``clear`` and ``cloud``, the share of labelled pixels; empty for
    patches without either, such as pairs.
    """
    labels = store.index["label"].dropna()
    if len(labels):
        return {str(name): float(share) for name, share in labels.value_counts(normalize=True).items()}
    cloud = store.index["cloud_percentage"].dropna()
    return {} if cloud.empty else {"clear": 1 - float(cloud.mean()) / 100, "cloud": float(cloud.mean()) / 100}


def _pixels_by_group(store: PatchStore, name: str) -> dict[str, npt.NDArray[Any]]:
    """(bands, pixels) valid digital numbers of some patches of each group; none of groups under a closed cover."""
    role, array = store.roles[name], store.array(name)
    instrument = INSTRUMENTS[role.instrument]
    groups = store.index["group"].astype(str).reset_index(drop=True)
    groups = groups[~(store.index["cloud_percentage"] > _MOST_CLOUD).to_numpy()]
    chosen = groups.groupby(groups).head(_PATCHES_A_GROUP)
    step = max(1, chosen.nunique() // _GROUPS)
    found = {}
    for group, rows in list(chosen.groupby(chosen).groups.items())[::step]:
        thinned = np.stack([np.asarray(array[row][:, ::_STEP, ::_STEP]) for row in rows])
        pixels = np.moveaxis(thinned, 1, 0)[:, instrument.valid(thinned)]
        if pixels.shape[1]:
            found[str(group)] = pixels
    return found


def _problems(role: Role, pixels: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    instrument = INSTRUMENTS[role.instrument]
    together = np.concatenate(list(pixels.values()), axis=1)
    physical = instrument.to_physical(together)
    low, high = _LIMITS[instrument.unit]
    outside = float(((physical < low) | (physical > high)).mean())
    problems = []
    if outside > _MOST_OUTSIDE:
        problems.append(
            f"{outside:.0%} of the values are outside {low:g} … {high:g} {instrument.unit}; is it {role.instrument}?"
        )
    if instrument.unit == "dB" and np.median(physical) > 0:
        problems.append("backscatter is above 0 dB in most places: is it linear power? Take 10 log10 of it.")
    wide = np.issubdtype(together.dtype, np.unsignedinteger) and together.dtype.itemsize > 1
    if wide and together.max() <= np.iinfo(np.uint8).max:
        problems.append(f"no number is above 255 though {role.instrument} has 16 bits: were files scaled to 8 bits?")
    if instrument.dtype == "uint8" and together.max() <= 1:
        problems.append("no number is above 1: were pictures scaled to 0 … 1 before they were stored as whole numbers?")
    if role.instrument in _CLIPPED_SHARE:
        problems += _offset_problems(role, instrument, pixels)
    return problems


def _offset_problems(role: Role, instrument: Instrument, pixels: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    common = [instrument.find(band).common_name for band in role.bands]
    dark = {group: np.percentile(instrument.to_physical(numbers), _DARK, axis=1) for group, numbers in pixels.items()}
    levels = np.stack(list(dark.values()))
    # A band that is zero everywhere is not there (some collections fill absent bands with zeros).
    there = np.array([any(numbers[band].any() for numbers in pixels.values()) for band in range(len(common))])
    if not there.any():
        return []
    advice = "See RADIO_ADD_OFFSET in the product's metadata."
    if "cirrus" in common and there[common.index("cirrus")]:
        forgotten = [group for group, level in dark.items() if level[common.index("cirrus")] >= _JUST_BELOW]
        wholly = bool(forgotten)
    else:
        bright = levels[:, there].min(axis=1) >= _JUST_BELOW
        forgotten = [group for group, is_bright in zip(dark, bright, strict=True) if is_bright]
        wholly = len(dark) >= _FEWEST_GROUPS and len(forgotten) > (1 - _MOST_WITHOUT_DARK) * len(dark)
    if wholly:
        return [
            f"nothing is darker than {OFFSET:g} in {len(forgotten)} of {len(dark)} groups "
            f"({', '.join(forgotten[:5])}): the offset of -1000 digital numbers seems not to have been "
            f"applied. {advice}"
        ]
    visible = [band for band, name in enumerate(common) if name in ("red", "green", "blue") and there[band]]
    if not visible:
        return []
    black = levels[:, visible].min(axis=1) < _FLOOR
    if black.mean() < _CLIPPED_SHARE[role.instrument]:
        return []
    named = [group for group, is_black in zip(dark, black, strict=True) if is_black]
    return [
        f"visible bands are black in {len(named)} of {len(dark)} groups ({', '.join(named[:5])}): the offset of -1000 "
        f"digital numbers seems to have been applied twice. {advice}"
    ]
