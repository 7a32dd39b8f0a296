"""Baselines of coverage classification that need no classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidModel, NoUsablePatches
from cloud_assets.families import family_of, load_predictor
from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows, cloud_percentage
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.composites import TRUE_COLOUR, instrument_of
from cloud_assets.reports.predictions import band_channels, predict_patches

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.patches.store import PatchStore

_THRESHOLDS = np.linspace(0.02, 0.98, 97)
"""Reflectances that are tried as threshold."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BrightShare:
    """Takes the share of pixels brighter than a threshold for the cloud cover."""

    threshold: float
    """Reflectance from which on a pixel counts."""
    bands: tuple[str, ...]
    """Bands whose mean is the brightness; all of the patches' bands if they do not hold red, green and blue."""

    def classify(self, store: PatchStore, windows: Windows, classes: CoverageClasses) -> Integers:
        """(K,) class of each window."""
        shares = [
            _bright_shares(pixels, np.array([self.threshold])) for pixels in _brightness(store, windows, self.bands)
        ]
        return classes.classify(np.concatenate(shares))


def fit_bright_share(store: PatchStore, windows: Windows, classes: CoverageClasses) -> BrightShare:
    """Finds the threshold with the best accuracy on the training windows; of several as good, the middle one."""
    role = store.roles[IMAGES]
    try:
        band_channels(role, TRUE_COLOUR)
        bands: tuple[str, ...] = TRUE_COLOUR
    except NoUsablePatches:
        bands = tuple(role.bands)
    shares = np.stack([_bright_shares(pixels, _THRESHOLDS) for pixels in _brightness(store, windows, bands)])
    accuracy = (classes.classify(shares) == windows.labels[:, None]).mean(axis=0)
    best = np.flatnonzero(accuracy == accuracy.max())
    return BrightShare(float(_THRESHOLDS[best[len(best) // 2]]), bands)


def classify_by_mask(
    bundle: ModelBundle, store: PatchStore, windows: Windows, classes: CoverageClasses, *, title: str, progress: bool
) -> Integers:
    """Classes by the coverage of a segmentation model's mask, made once for each patch and cut for each window.

    Returns:
        (K,) class numbers.

    Raises:
        NoUsablePatches: If the model is for another instrument, lacks a band, or does not make masks.
    """
    instrument = store.roles[IMAGES].instrument
    products = {product.name for product in family_of(bundle).products}
    if bundle.card.preprocessing.instrument != instrument or "mask" not in products:
        raise NoUsablePatches(
            f"{bundle.card.task}/{bundle.card.variant} makes no masks of {instrument}: it is a {bundle.card.family} "
            f"model for {bundle.card.preprocessing.instrument}."
        )
    try:
        predictor = load_predictor(bundle)
    except InvalidModel as error:
        raise NoUsablePatches(f"{bundle.card.task}/{bundle.card.variant} cannot be loaded: {error}") from error
    found = np.zeros(len(windows), np.int64)
    rows = np.unique(windows.rows)
    for batch in predict_patches(predictor, store, rows, batch_size=1, title=title, progress=progress):
        for position in np.flatnonzero(windows.rows == batch.indices[0]):
            top, left = windows.tops[position], windows.lefts[position]
            bottom, right = top + windows.heights[position], left + windows.widths[position]
            percentage = cloud_percentage(batch.answer["mask"][0, top:bottom, left:right])
            # Labelled windows hold valid pixels, but their labels and the data need not be of the same ones.
            found[position] = classes.classify(np.nan_to_num(percentage))
    return found


def _brightness(store: PatchStore, windows: Windows, bands: tuple[str, ...]) -> Iterator[npt.NDArray[np.float32]]:
    """Mean reflectance of the valid pixels of each window, one dimension."""
    role = store.roles[IMAGES]
    channels, instrument = band_channels(role, bands), instrument_of(role)
    for position in range(len(windows)):
        dn = windows.read(store, position, IMAGES)
        yield instrument.to_physical(dn[channels]).mean(axis=0)[instrument.valid(dn)]


def _bright_shares(brightness: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Percentage of pixels at or above each threshold; 0 where there are no pixels."""
    darker = np.searchsorted(np.sort(brightness), thresholds.astype(np.float32), side="left")
    return 100.0 * (len(brightness) - darker) / max(len(brightness), 1)
