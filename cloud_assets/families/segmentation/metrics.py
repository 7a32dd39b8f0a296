"""Metrics of cloud masks, gathered batch by batch.

Only counts are kept: confusion counts a patch, one class matrix, and a histogram of the cloud probability. The metrics
are scikit-learn's, with those counts as sample weights, so they are exact and no pixel has to stay in memory. Metrics
of the probability are those of the probability rounded down to 1/1000.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.reports.confusion_counts import Counts, confusion_counts, histogram_samples

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
        """Adds a batch.

        Args:
            indices: (N,) rows of the patch store.
            truth: (N, H, W) cloud codes, 255 unlabelled.
            mask: (N, H, W) predicted cloud codes, 255 nodata.
            cloud_probability: (N, H, W) in [0, 1]; None if the rule that is scored gives none.
        """
        labelled = truth != UNLABELLED
        scored = labelled & (mask != UNLABELLED)
        self.unpredicted += int(labelled.sum() - scored.sum())
        self.indices += indices.tolist()
        is_cloud, found_cloud = _is_cloud(truth), _is_cloud(mask)
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
        return cloud_metrics(self.counts) | self._class_metrics() | probability_metrics(self.histogram)

    def absent_classes(self) -> list[str]:
        """Names of the classes that the truth never holds."""
        return [CLASS_NAMES[code] for code in CLASS_NAMES if not self.class_counts[code].sum()]

    def _class_metrics(self) -> dict[str, float]:
        """IoU a class; of cloud alone for a model that knows no kinds, and then how much of each kind it finds."""
        from sklearn.metrics import jaccard_score

        if self.has_kinds:
            table, names = self.class_counts, list(CLASS_NAMES.values())
        else:
            tp, fp, fn, tn = self.counts
            table, names = np.array([[tn, fp], [fn, tp]]), ["clear", "cloud"]
        present = [position for position in range(len(names)) if table[position].sum()]
        if not present:
            return {}
        truth, predicted, weights = _weighted(table)
        scores = jaccard_score(truth, predicted, labels=present, average=None, sample_weight=weights)
        metrics = {f"iou_{_key(names[code])}": float(score) for code, score in zip(present, scores, strict=True)}
        return {"miou": float(np.mean(scores))} | metrics | self._found_as_cloud()

    def _found_as_cloud(self) -> dict[str, float]:
        """Share of each true class that was predicted to be cloud of either kind; only where kinds are labelled."""
        if not self.class_counts[[THIN_CLOUD, CLOUD_SHADOW]].sum():
            return {}
        found = self.class_counts[:, [THICK_CLOUD, THIN_CLOUD]].sum(axis=1)
        total = self.class_counts.sum(axis=1)
        return {
            f"found_as_cloud_{_key(name)}": float(found[c] / total[c]) for c, name in CLASS_NAMES.items() if total[c]
        }


def cloud_metrics(counts: Counts) -> dict[str, float]:
    """Metrics of cloud against clear by scikit-learn.

    Args:
        counts: (4,) confusion counts: tp, fp, fn, tn.

    Returns:
        ``iou``, ``f1``, ``precision``, ``recall``, ``accuracy``, ``specificity``, ``balanced_accuracy``; those that are
        undefined are left out.
    """
    from sklearn.metrics import (
        accuracy_score,
        balanced_accuracy_score,
        f1_score,
        jaccard_score,
        precision_score,
        recall_score,
    )

    tp, fp, fn, tn = (int(count) for count in counts)
    truth, predicted, weights = _weighted(np.array([[tn, fp], [fn, tp]]))
    metrics: dict[str, float] = {}
    if tp + fp + fn:
        metrics["iou"] = jaccard_score(truth, predicted, sample_weight=weights)
        metrics["f1"] = f1_score(truth, predicted, sample_weight=weights)
    if tp + fp:
        metrics["precision"] = precision_score(truth, predicted, sample_weight=weights)
    if tp + fn:
        metrics["recall"] = recall_score(truth, predicted, sample_weight=weights)
    if tp + fp + fn + tn:
        metrics["accuracy"] = accuracy_score(truth, predicted, sample_weight=weights)
    if tn + fp:
        metrics["specificity"] = recall_score(truth, predicted, pos_label=0, sample_weight=weights)
    if (tp + fn) and (tn + fp):
        metrics["balanced_accuracy"] = balanced_accuracy_score(truth, predicted, sample_weight=weights)
    return {name: float(value) for name, value in metrics.items()}


def probability_metrics(histogram: npt.NDArray[np.int64]) -> dict[str, float]:
    """Metrics that need no threshold.

    Args:
        histogram: (2, bins) pixels by truth (clear, cloud) and bin of the cloud probability.

    Returns:
        ``average_precision`` and ``auroc``; empty unless both classes occur.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if not histogram.sum(axis=1).all():
        return {}
    truth, score, weights = histogram_samples(histogram)
    return {
        "average_precision": float(average_precision_score(truth, score, sample_weight=weights)),
        "auroc": float(roc_auc_score(truth, score, sample_weight=weights)),
    }


def _weighted(
    table: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A confusion matrix (truth by row) as truth, prediction and weight of each cell."""
    truth, predicted = np.indices(table.shape)
    return truth.ravel(), predicted.ravel(), table.ravel()


def _is_cloud(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.asarray((codes == THICK_CLOUD) | (codes == THIN_CLOUD))


def _key(name: str) -> str:
    return name.replace(" ", "_")
