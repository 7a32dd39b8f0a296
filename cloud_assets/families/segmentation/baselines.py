"""The brightness threshold, the trivial rule that cloud masks are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.errors import NoUsablePatches
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.composites import TRUE_COLOUR, instrument_of
from cloud_assets.reports.confusion_counts import histogram_samples
from cloud_assets.reports.predictions import band_channels

if TYPE_CHECKING:
    from cloud_assets.patches.store import PatchStore, Role

_DARKEST, _BRIGHTEST = -0.1, 1.5
_BINS = 1600
_PATCHES_A_BATCH = 16


@dataclass(frozen=True)
class BrightnessThreshold:
    """Calls cloud whatever is brighter than a threshold: the mean reflectance of the visible bands decides."""

    value: float
    """Reflectance from which on a pixel is cloud."""
    bands: tuple[str, ...]
    """Bands whose mean is the brightness; all of the patches' bands if they do not hold red, green and blue."""
    role: Role
    """What the digital numbers are."""

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Applies the threshold.

        Args:
            dn: (N, C, H, W) digital numbers, all bands of the role.

        Returns:
            (N, H, W) cloud codes, 255 nodata.
        """
        brightness, valid = _brightness(dn, self.role, self.bands)
        found = np.where(brightness >= self.value, np.uint8(THICK_CLOUD), np.uint8(CLEAR))
        return np.where(valid, found, np.uint8(UNLABELLED))


def fit_brightness_threshold(
    store: PatchStore, indices: npt.NDArray[np.int64], most_patches: int
) -> BrightnessThreshold | None:
    """Finds the brightness threshold with the best IoU on the training patches.

    Returns:
        The fitted threshold; None if the training patches do not hold both classes.
    """
    from sklearn.metrics import precision_recall_curve

    role = store.roles[IMAGES]
    try:
        band_channels(role, TRUE_COLOUR)
        bands: tuple[str, ...] = TRUE_COLOUR
    except NoUsablePatches:
        bands = tuple(role.bands)
    chosen = indices[np.linspace(0, len(indices) - 1, min(len(indices), most_patches)).astype(np.int64)]
    histogram = np.zeros((2, _BINS), np.int64)
    for start in range(0, len(chosen), _PATCHES_A_BATCH):
        rows = chosen[start : start + _PATCHES_A_BATCH]
        truth = store.masks[rows]
        brightness, valid = _brightness(store.array(IMAGES)[rows], role, bands)
        valid &= truth != UNLABELLED
        is_cloud = np.isin(truth[valid], (THICK_CLOUD, THIN_CLOUD))
        share = (brightness[valid] - _DARKEST) / (_BRIGHTEST - _DARKEST)
        bins = (share * _BINS).astype(np.int64).clip(0, _BINS - 1)
        histogram += np.bincount(is_cloud * _BINS + bins, minlength=2 * _BINS).reshape(2, -1)
    if not histogram.sum(axis=1).all():
        return None
    cloud, brightness_share, pixels = histogram_samples(histogram)
    seen = pixels > 0
    precision, recall, thresholds = precision_recall_curve(
        cloud[seen], brightness_share[seen], sample_weight=pixels[seen]
    )
    # Where F1 is largest the IoU is too: IoU = F1 / (2 - F1).
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = float(thresholds[int(np.argmax(f1[:-1]))])
    return BrightnessThreshold(_DARKEST + best * (_BRIGHTEST - _DARKEST), bands, role)


def _brightness(
    dn: npt.NDArray[Any], role: Role, bands: tuple[str, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Mean reflectance of some bands, (N, H, W), and which pixels were observed in any band."""
    instrument = instrument_of(role)
    return instrument.to_physical(dn[:, band_channels(role, bands)]).mean(axis=1), instrument.valid(dn)
