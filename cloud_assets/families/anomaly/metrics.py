"""Metrics of anomaly scores, and rules without learning that a model has to beat: brightness and contrast."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score

from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.predictions import instrument_of, predict_patches

Scores = npt.NDArray[np.float64]
_RESAMPLES = 1000
_CONFIDENCE = 0.95
_WINDOW, _WHITE = 7, 0.4
"""Side of the square that contrast is measured in, pixels; reflectance from which on all is as bright."""


@dataclass(frozen=True)
class LabelledScores:
    """Scores of pictures whose class is known."""

    score: Scores  # (N,) more is more anomalous
    is_anomalous: npt.NDArray[np.bool_]  # (N,) the truth

    @property
    def normal(self) -> Scores:
        """Scores of the normal pictures."""
        return self.score[~self.is_anomalous]

    @property
    def anomalous(self) -> Scores:
        """Scores of the anomalous pictures."""
        return self.score[self.is_anomalous]


def score_patches(
    predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], title: str, progress: bool
) -> dict[str, Scores]:
    """(N,) scores of patches by name, NaN without any valid pixel; ``score`` is the one that decides."""
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    for batch in predict_patches(predictor, store, rows, batch_size=4, title=title, progress=progress):
        for name, values in batch.answer.items():
            if values.ndim == 1 and values.dtype != bool:
                found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in found.items()}


def ranking_metrics(labelled: LabelledScores) -> dict[str, float]:
    """What does not depend on a threshold.

    Returns:
        ``auroc``, ``average_precision``, ``false_alarms_at_95_recall`` (share of the normals that lie at or above the
        score that 95 % of the anomalies reach), ``f1_best`` (at the best threshold for these pictures: a bound).
    """
    truth, score = labelled.is_anomalous, labelled.score
    precision, recall, _ = precision_recall_curve(truth, score)
    reached = np.quantile(labelled.anomalous, 0.05, method="lower")
    return {
        "auroc": float(roc_auc_score(truth, score)),
        "average_precision": float(average_precision_score(truth, score)),
        "false_alarms_at_95_recall": float((labelled.normal >= reached).mean()),
        "f1_best": float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()),
    }


def decision_metrics(labelled: LabelledScores, threshold: float) -> dict[str, float]:
    """What a threshold makes of the scores.

    Returns:
        ``f1``, ``precision``, ``recall``, ``accuracy``, ``false_alarm_rate`` and its 95 % interval (Clopper & Pearson
        1934) as ``false_alarm_rate_low`` and ``…_high``, and the counts ``tp``, ``fp``, ``fn``, ``tn``.
    """
    called = labelled.score >= threshold
    tn, fp, fn, tp = confusion_matrix(labelled.is_anomalous, called, labels=[False, True]).ravel().tolist()
    interval = binomtest(fp, fp + tn).proportion_ci(_CONFIDENCE, "exact")
    return {
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        "precision": tp / max(tp + fp, 1),
        "recall": tp / max(tp + fn, 1),
        "accuracy": (tp + tn) / len(labelled.score),
        "false_alarm_rate": fp / max(fp + tn, 1),
        "false_alarm_rate_low": float(interval.low),
        "false_alarm_rate_high": float(interval.high),
        **{"tp": float(tp), "fp": float(fp), "fn": float(fn), "tn": float(tn)},
    }


def auroc_interval(labelled: LabelledScores, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the area under the ROC curve, resampling each class by itself."""
    rng = np.random.default_rng(seed)
    wins = (labelled.anomalous[:, None] > labelled.normal) + 0.5 * (labelled.anomalous[:, None] == labelled.normal)
    areas = [
        wins[rng.integers(wins.shape[0], size=wins.shape[0])][:, rng.integers(wins.shape[1], size=wins.shape[1])].mean()
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def robust_deviation(score: Scores) -> float:
    """Standard deviation by the median absolute deviation, which outliers do not move."""
    return 1.4826 * float(np.nanmedian(np.abs(score - np.nanmedian(score))))


def robust_outliers(score: Scores, deviations: float) -> npt.NDArray[np.bool_]:
    """Which scores (N,) lie more than so many robust deviations above the median; none that is not a number."""
    return np.asarray(score > np.nanmedian(score) + deviations * max(robust_deviation(score), 1e-9))


def baseline_scores(store: PatchStore, rows: npt.NDArray[np.int64]) -> dict[str, Scores]:
    """What each rule says about rows of a store: (N,) scores by its name, 0 for pictures without a valid pixel."""
    instrument = instrument_of(store.roles[IMAGES])
    scores = {name: np.zeros(len(rows)) for name in ("mean brightness", "95th percentile", "local contrast")}
    for place, row in enumerate(rows):
        dn = store.array(IMAGES)[row]
        valid = instrument.valid(dn)
        if not valid.any():
            continue
        brightness = np.clip(instrument.to_physical(dn).mean(axis=0), 0, _WHITE) * valid
        mean = uniform_filter(brightness, _WINDOW)
        variance = uniform_filter(brightness * brightness, _WINDOW) - mean * mean
        scores["mean brightness"][place] = brightness[valid].mean()
        scores["95th percentile"][place] = np.percentile(brightness[valid], 95)
        scores["local contrast"][place] = np.sqrt(np.clip(variance, 0, None))[valid].mean()
    return scores
