"""Metrics of cloud masks, gathered batch by batch, and the brightness threshold that they are compared with.

Only counts are kept: confusion counts a patch, one class matrix, and a histogram of the cloud probability. So the
metrics, those of scikit-learn, are exact and no pixel has to stay in memory. Metrics of the probability are those of
the probability rounded down to 1/1000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from cloud_assets.bands import CLASS_NAMES, CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED, cloudy
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore, Role
from cloud_assets.reports.figures import visible_bands
from cloud_assets.reports.predictions import band_channels, instrument_of
from cloud_assets.reports.statistics import Counts, confusion_counts, histogram_samples, ratios

PROBABILITY_BINS = 1000


class SegmentationScores:
    """Gathers the outcome of a split's patches.

    Args:
        has_kinds: True if the model tells thick cloud, thin cloud and shadow apart, False if only cloud from clear.
    """

    def __init__(self, has_kinds: bool) -> None:
        self.has_kinds = has_kinds
        self.indices: list[int] = []
        """Rows of the patch store, in the order in which they came."""
        self.class_counts = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), np.int64)
        """Pixels by true (row) and predicted (column) cloud code."""
        self.histogram = np.zeros((2, PROBABILITY_BINS), np.int64)
        """Pixels by truth (clear, cloud) and by the bin of their cloud probability."""
        self.unpredicted = 0
        """Labelled pixels that the model took for nodata; they are not scored."""
        self._counts: list[Counts] = []

    @property
    def patch_counts(self) -> Counts:
        """Confusion counts of the patches, (N, 4), cloud against clear."""
        return np.array(self._counts, np.int64).reshape(-1, 4)

    @property
    def counts(self) -> Counts:
        """Confusion counts of all patches together, (4,)."""
        return np.asarray(self.patch_counts.sum(axis=0))

    def update(
        self,
        indices: npt.NDArray[np.int64],
        truth: npt.NDArray[np.uint8],
        mask: npt.NDArray[np.uint8],
        cloud_probability: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Adds a batch: rows (N,) of the store, true and predicted codes (N, H, W), probability (N, H, W) if any."""
        labelled = truth != UNLABELLED
        scored = labelled & (mask != UNLABELLED)
        self.unpredicted += int(labelled.sum() - scored.sum())
        self.indices += indices.tolist()
        is_cloud, found_cloud = cloudy(truth), cloudy(mask)
        for position in range(len(truth)):
            chosen = scored[position]
            self._counts.append(confusion_counts(is_cloud[position][chosen], found_cloud[position][chosen]))
        classes = len(CLASS_NAMES)
        pairs = truth[scored] * np.uint8(classes) + mask[scored]
        self.class_counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        if cloud_probability is not None:
            bins = (cloud_probability[scored] * PROBABILITY_BINS).astype(np.int64).clip(0, PROBABILITY_BINS - 1)
            placed = is_cloud[scored] * PROBABILITY_BINS + bins
            self.histogram += np.bincount(placed, minlength=2 * PROBABILITY_BINS).reshape(2, -1)

    def metrics(self) -> dict[str, float]:
        """All metrics that the truth allows, by their names in metrics.json.

        A ratio without a denominator is left out: recall where there is no cloud, a class that never occurs.
        """
        return table_metrics(self.class_counts, self.has_kinds) | probability_metrics(self.histogram)

    def absent_classes(self) -> list[str]:
        """Names of the classes that the truth never holds."""
        return [CLASS_NAMES[code] for code in CLASS_NAMES if not self.class_counts[code].sum()]


def table_metrics(table: Counts, has_kinds: bool) -> dict[str, float]:
    """Metrics of a class matrix (4, 4), true by predicted cloud code: cloud against clear, IoU a class, and their mean.

    Args:
        table: Pixels.
        has_kinds: Whether kinds of cloud are told apart, so that each has an IoU; else clear and cloud have.
    """
    cloud = cloudy(np.arange(len(table))).astype(np.int64)
    (tn, fp), (fn, tp) = merged = np.array([1 - cloud, cloud]) @ table @ np.array([1 - cloud, cloud]).T
    iou = _class_ious(table, list(CLASS_NAMES.values())) if has_kinds else _class_ious(merged, ["clear", "cloud"])
    return cloud_metrics(np.array([tp, fp, fn, tn])) | iou | _found_as_cloud(table)


def _class_ious(table: Counts, names: Sequence[str]) -> dict[str, float]:
    correct, true = np.diag(table), table.sum(axis=1)
    present = np.flatnonzero(true)
    if not len(present):
        return {}
    iou = correct[present] / (true + table.sum(axis=0) - correct)[present]
    return {"miou": float(np.mean(iou))} | {
        f"iou_{_key(names[code])}": float(score) for code, score in zip(present.tolist(), iou, strict=True)
    }


def _found_as_cloud(table: Counts) -> dict[str, float]:
    """Share of each true class that was predicted to be cloud of either kind; only where kinds are labelled."""
    if not table[[THIN_CLOUD, CLOUD_SHADOW]].sum():
        return {}
    found = table[:, [THICK_CLOUD, THIN_CLOUD]].sum(axis=1)
    total = table.sum(axis=1)
    return {f"found_as_cloud_{_key(name)}": float(found[c] / total[c]) for c, name in CLASS_NAMES.items() if total[c]}


def cloud_metrics(counts: Counts) -> dict[str, float]:
    """The :func:`ratios` of cloud against clear from confusion counts (4,); those that are undefined are left out."""
    return {name: float(value) for name, value in ratios(counts).items() if np.isfinite(value)}


def probability_metrics(histogram: npt.NDArray[np.int64]) -> dict[str, float]:
    """``average_precision`` and ``auroc`` from a histogram as of :class:`SegmentationScores`; empty for one class."""
    if not histogram.sum(axis=1).all():
        return {}
    truth, score, weights = histogram_samples(histogram)
    return {
        "average_precision": float(average_precision_score(truth, score, sample_weight=weights)),
        "auroc": float(roc_auc_score(truth, score, sample_weight=weights)),
    }


def _key(name: str) -> str:
    return name.replace(" ", "_")


_DARKEST, _BRIGHTEST = -0.1, 1.5
_BINS = 1600
_PATCHES_A_BATCH = 16


@dataclass(frozen=True)
class BrightnessThreshold:
    """Calls cloud whatever is brighter than a threshold: the mean reflectance of the visible bands decides."""

    value: float  # reflectance from which on a pixel is cloud
    bands: tuple[str, ...]
    """Bands whose mean is the brightness; all of the patches' bands if they do not hold red, green and blue."""
    role: Role  # what the digital numbers are

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Cloud codes (N, H, W), 255 nodata, of digital numbers (N, C, H, W) with all bands of the role."""
        brightness, valid = _brightness(dn, self.role, self.bands)
        found = np.where(brightness >= self.value, np.uint8(THICK_CLOUD), np.uint8(CLEAR))
        return np.where(valid, found, np.uint8(UNLABELLED))


def fit_brightness_threshold(
    store: PatchStore, indices: npt.NDArray[np.int64], most_patches: int
) -> BrightnessThreshold | None:
    """The brightness threshold with the best IoU on the training patches; None if these do not hold both classes."""
    role = store.roles[IMAGES]
    bands = visible_bands(role)
    chosen = indices[np.linspace(0, len(indices) - 1, min(len(indices), most_patches)).astype(np.int64)]
    histogram = np.zeros((2, _BINS), np.int64)
    for start in range(0, len(chosen), _PATCHES_A_BATCH):
        rows = chosen[start : start + _PATCHES_A_BATCH]
        truth = store.masks[rows]
        brightness, valid = _brightness(store.array(IMAGES)[rows], role, bands)
        valid &= truth != UNLABELLED
        is_cloud = cloudy(truth[valid])
        share = (brightness[valid] - _DARKEST) / (_BRIGHTEST - _DARKEST)
        bins = (share * _BINS).astype(np.int64).clip(0, _BINS - 1)
        histogram += np.bincount(is_cloud * _BINS + bins, minlength=2 * _BINS).reshape(2, -1)
    if not histogram.sum(axis=1).all():
        return None
    cloud, brightness_share, pixels = histogram_samples(histogram)
    seen = pixels > 0
    weights = pixels[seen]
    precision, recall, thresholds = precision_recall_curve(cloud[seen], brightness_share[seen], sample_weight=weights)
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
