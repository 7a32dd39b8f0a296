"""Confusion counts of many scenes at once, and the ratios that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

COUNT_COLUMNS = ("tp", "fp", "fn", "tn")
"""Pixels that are cloud and found, falsely found, missed, clear and found clear: columns of every per-scene table."""

Counts = npt.NDArray[np.int64]
"""Confusion counts (…, 4), last axis as :data:`COUNT_COLUMNS`."""


def confusion_counts(truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> Counts:
    """(4,) counts of the four outcomes of two masks of one shape, True where cloud is and where it was said to be."""
    outcomes = np.bincount(truth.ravel() * np.uint8(2) + predicted.ravel(), minlength=4)
    return outcomes[[3, 1, 2, 0]].astype(np.int64)


def ratios(counts: npt.NDArray[np.integer]) -> dict[str, npt.NDArray[np.float64]]:
    """Ratios of confusion counts for any number of scenes at once.

    The same numbers as scikit-learn's functions give for one scene; those cannot take ten thousand bootstrap samples.

    Returns:
        Arrays (…) in [0, 1] by name of the ratio; NaN where a ratio is undefined, e.g. recall where there is no cloud.
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, specificity = tp / (tp + fn), tn / (tn + fp)
        return {
            "iou": tp / (tp + fp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "precision": tp / (tp + fp),
            "recall": recall,
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "specificity": specificity,
            "balanced_accuracy": (recall + specificity) / 2,
        }


def scene_table(groups: Sequence[str], counts: Counts) -> pd.DataFrame:
    """Adds up the counts (N, 4) of N patches by their groups (scenes, regions).

    Returns:
        One row a group, worst IoU first: ``group``, ``patches``, ``valid_pixels``, ratios, ``cloud_truth_percentage``,
        ``cloud_predicted_percentage`` and the counts. Ratios that are undefined are NaN.
    """
    import pandas as pd

    names, position = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    totals = np.zeros((len(names), 4), np.int64)
    np.add.at(totals, position, counts)
    pixels = totals.sum(axis=1)
    shares = {name: values for name, values in ratios(totals).items() if name != "balanced_accuracy"}
    with np.errstate(invalid="ignore", divide="ignore"):
        table = pd.DataFrame(
            {
                "group": names,
                "patches": np.bincount(position, minlength=len(names)),
                "valid_pixels": pixels,
                **shares,
                "cloud_truth_percentage": 100 * (totals[:, 0] + totals[:, 2]) / pixels,
                "cloud_predicted_percentage": 100 * (totals[:, 0] + totals[:, 1]) / pixels,
                **dict(zip(COUNT_COLUMNS, totals.T, strict=True)),
            }
        )
    # A clear scene that was found clear has no IoU: nothing is wrong with it, so it comes last.
    return table.sort_values(["iou", "accuracy"], na_position="last", ignore_index=True)


def histogram_samples(
    histogram: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """A histogram (2, bins) of pixels by truth and bin as weighted samples, the form that scikit-learn takes.

    Returns:
        Truth (0 or 1), lower edge of the bin as a share of the range, and number of pixels, each (2 * bins,).
    """
    bins = histogram.shape[1]
    return np.repeat([0, 1], bins), np.tile(np.arange(bins) / bins, 2), histogram.ravel()
