"""Confidence intervals of a model's metric and of the difference of two models on the same test split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.image_folders import CLOUDY
from cloud_assets.errors import InvalidReport
from cloud_assets.reports.bootstrap import RESAMPLES, Interval, metric_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.reports.evaluation import Evaluation

_SCORE, _TRUTH = "distance_to_threshold", "truth"


def model_interval(evaluation: Evaluation, metric: str, confidence: float = 0.95) -> Interval | None:
    """Confidence interval of a metric on the test split, over scenes; None if the evaluation keeps nothing for one."""
    per_scene = evaluation.tables.get("per_scene")
    try:
        return None if per_scene is None else metric_interval(per_scene, metric, confidence)
    except InvalidReport:
        return None


def model_difference(
    candidate: Evaluation, champion: Evaluation, metric: str, confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """Confidence interval of candidate minus champion by a paired bootstrap: the same samples are drawn for both.

    Args:
        candidate: The candidate's evaluation.
        champion: The champion's on the same test split.
        metric: Name of the metric.
        confidence: Confidence level.
        seed: Seed of the resampling.

    Returns:
        The interval, over scenes where the evaluations have a ``per_scene`` table, over pictures for ``auroc``; None
        if they keep nothing that the metric could be computed from again, or too few scenes.
    """
    scenes = [evaluation.tables.get("per_scene") for evaluation in (candidate, champion)]
    try:
        if scenes[0] is not None and scenes[1] is not None:
            return paired_difference(scenes[0], scenes[1], metric, confidence, seed)
        pictures = [evaluation.tables.get("per_patch") for evaluation in (candidate, champion)]
        if metric == "auroc" and pictures[0] is not None and pictures[1] is not None:
            return _auroc_difference(pictures[0], pictures[1], confidence, seed)
    except InvalidReport:
        return None
    return None


def _auroc_difference(first: pd.DataFrame, second: pd.DataFrame, confidence: float, seed: int) -> Interval | None:
    """Normal and anomalous pictures are drawn apart, so that each draw has both."""
    columns = {"patch_id", _TRUTH, _SCORE}
    if not columns <= set(first.columns) & set(second.columns):
        return None
    first, second = (table.sort_values("patch_id", ignore_index=True) for table in (first, second))
    if first["patch_id"].tolist() != second["patch_id"].tolist():
        raise InvalidReport("The two evaluations are about different pictures.")
    is_anomalous = first[_TRUTH].to_numpy() == CLOUDY
    wins = [_wins(table[_SCORE].to_numpy(dtype=np.float64), is_anomalous) for table in (first, second)]
    anomalous, normal = wins[0].shape
    if not anomalous or not normal:
        return None
    difference = wins[0] - wins[1]
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size for size in (anomalous, normal)]
    values = ((drawn[0] @ difference) * drawn[1]).sum(axis=1)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(difference.mean()), float(low), float(high), confidence, len(first), "pictures")


def _wins(score: npt.NDArray[np.float64], is_anomalous: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(anomalous, normal) 1 where the anomalous picture has the higher score, a half where they are equal."""
    above = score[is_anomalous][:, None] - score[~is_anomalous][None]
    return np.where(above > 0, 1.0, np.where(above == 0, 0.5, 0.0))
