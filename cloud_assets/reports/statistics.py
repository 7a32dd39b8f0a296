"""Confusion counts and the ratios that follow from them; confidence intervals of metrics, by resampling.

Intervals, also of differences of two models, resample scenes or pictures: pixels depend on each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.image_folders import CLOUDY
from cloud_assets.errors import InvalidReport

if TYPE_CHECKING:
    import pandas as pd

COUNT_COLUMNS = ("tp", "fp", "fn", "tn")
"""Pixels that are cloud and found, falsely found, missed, clear and found clear: columns of every per-scene table."""

Counts = npt.NDArray[np.int64]  # confusion counts (…, 4), last axis as :data:`COUNT_COLUMNS`
RESAMPLES, _BATCH = 2000, 500
Statistic = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]
_WEIGHTS = ("samples", "patches")
_SCORE, _TRUTH = "distance_to_threshold", "truth"


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


def scene_table(groups: Sequence[str], counts: Counts) -> "pd.DataFrame":
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


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float  # the value on the test split itself
    low: float
    high: float
    confidence: float  # share of repetitions whose interval would hold the true value, e.g. 0.95.
    groups: int  # how many scenes were resampled; an interval from fewer than about 10 is a rough guide
    unit: str = "scenes"  # what was resampled

    @classmethod
    def of(
        cls, estimate: float, drawn: npt.NDArray[np.float64], confidence: float, groups: int, unit: str = "scenes"
    ) -> "Interval":
        """The percentiles of the drawn values; those that are no number are left out."""
        tail = 100 * (1 - confidence) / 2
        low, high = np.nanpercentile(drawn, [tail, 100 - tail])
        return cls(estimate, float(low), float(high), confidence, groups, unit)


def metric_interval(per_scene: "pd.DataFrame", metric: str, confidence: float = 0.95, seed: int = 0) -> Interval | None:
    """Confidence interval of a metric over the scenes of an evaluation's ``per_scene`` table; None for fewer than two.

    With confusion counts the metric is that of all resampled scenes' pixels together, else the mean of the table's
    column of that name, each scene counting as much as it has ``samples`` or ``patches``.
    """
    return _interval(_pooled(per_scene, metric), len(per_scene), confidence, seed)


def paired_difference(
    candidate: "pd.DataFrame", champion: "pd.DataFrame", metric: str, confidence: float = 0.95
) -> Interval | None:
    """Confidence interval of candidate minus champion by their ``per_scene`` tables; None for fewer than two scenes.

    The same scenes are drawn for both.

    Raises:
        InvalidReport: If the two tables are about different scenes.
    """
    groups = sorted(candidate["group"])
    if groups != sorted(champion["group"]):
        raise InvalidReport(
            "The candidate's and the champion's per-scene tables are about different scenes. Evaluate both on the same "
            "test split."
        )
    first, second = _pooled(candidate, metric), _pooled(champion, metric)
    return _interval(lambda rows: first(rows) - second(rows), len(candidate), confidence)


def _pooled(per_scene: "pd.DataFrame", metric: str) -> Statistic:
    """The metric (…) of any selections (…, scenes) of the scenes in the order of their names."""
    table = per_scene.sort_values("group", ignore_index=True)
    if set(COUNT_COLUMNS) <= set(table.columns) and metric in ratios(np.zeros(4, np.int64)):
        counts = table[list(COUNT_COLUMNS)].to_numpy()
        return lambda rows: ratios(counts[rows].sum(axis=-2))[metric]
    if metric not in table.columns:
        raise InvalidReport(
            f"The per-scene table has no column {metric!r} and no confusion counts. It has: {', '.join(table.columns)}."
        )
    values = table[metric].to_numpy(dtype=np.float64)
    sizes = next((table[name].to_numpy(dtype=np.float64) for name in _WEIGHTS if name in table), np.ones(len(table)))
    weights, weighted = np.where(np.isnan(values), 0.0, sizes), np.nan_to_num(values) * sizes

    def mean(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.asarray(weighted[rows].sum(axis=-1) / weights[rows].sum(axis=-1))

    return mean


def _interval(statistic: Statistic, scenes: int, confidence: float, seed: int = 0) -> Interval | None:
    if scenes < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(0, scenes, (_BATCH, scenes))) for _ in range(RESAMPLES // _BATCH)]
    # A draw of clear scenes only has no IoU, and is left out.
    return Interval.of(float(statistic(np.arange(scenes))), np.concatenate(drawn), confidence, scenes)


def auroc_difference(first: "pd.DataFrame", second: "pd.DataFrame", confidence: float) -> Interval | None:
    """Normal and anomalous pictures are drawn apart, so that each draw has both."""
    columns = {"patch_id", _TRUTH, _SCORE}
    if not columns <= set(first.columns) & set(second.columns):
        return None
    first, second = (table.sort_values("patch_id", ignore_index=True) for table in (first, second))
    if first["patch_id"].tolist() != second["patch_id"].tolist():
        raise InvalidReport("The two evaluations are about different pictures. Evaluate both on the same splits.")
    is_anomalous = first[_TRUTH].to_numpy() == CLOUDY
    if is_anomalous.all() or not is_anomalous.any():
        return None
    scores = [table[_SCORE].to_numpy(dtype=np.float64) for table in (first, second)]
    # (anomalous, normal): 1 where the anomalous picture has the higher score, a half where they are equal.
    wins = [np.heaviside(score[is_anomalous][:, None] - score[~is_anomalous][None], 0.5) for score in scores]
    difference = wins[0] - wins[1]
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size for size in difference.shape]
    values = ((drawn[0] @ difference) * drawn[1]).sum(axis=1)
    return Interval.of(float(difference.mean()), values, confidence, len(first), "pictures")
