"""The threshold of an anomaly score, and the false alarm rate that it keeps."""

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.inference.bundle import Threshold

Scores = npt.NDArray[np.float64]

_TO_DEVIATION = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""


class Rule(Protocol):
    """The settings that :func:`choose_threshold` reads, see :class:`~.anomaly_recipe.ThresholdRule`."""

    @property
    def method(self) -> str:
        """How to choose."""
        ...

    @property
    def false_alarm_rate(self) -> float:
        """The promise."""
        ...

    @property
    def value(self) -> float | None:
        """The value of a fixed threshold."""
        ...


def choose_threshold(rule: Rule, normal: Scores, anomalous: Scores, unit: str) -> Threshold:
    """Chooses the score from which on a picture is called anomalous.

    Args:
        rule: How.
        normal: (N,) scores of validation normals.
        anomalous: (M,) scores of labelled validation anomalies; empty unless the splits allow any there.
        unit: What the scores are.

    Returns:
        The threshold with its method and unit.

    Raises:
        NoUsablePatches: If there is no normal score.
        InvalidRecipe: If F1 is asked for without labelled anomalies.
    """
    if rule.method == "fixed" and rule.value is not None:
        return Threshold(value=rule.value, method="fixed by the recipe", unit=unit)
    if not len(normal):
        raise NoUsablePatches("no validation picture has a score, so no threshold can be chosen. Look at the splits.")
    if rule.method == "f1":
        return Threshold(
            value=_best_f1(normal, anomalous),
            method=f"best F1 on {len(normal)} normal and {len(anomalous)} anomalous validation pictures",
            unit=unit,
        )
    promise = f"at most {rule.false_alarm_rate:.0%} false alarms promised"
    rank = conformal_rank(len(normal), rule.false_alarm_rate)
    if rule.method == "quantile" and rank <= len(normal):
        method = f"rank {rank} of {len(normal)} validation normals, {promise}"
        # Scores at the threshold are anomalous, the score of that rank itself is not.
        return Threshold(value=float(np.nextafter(np.sort(normal)[rank - 1], np.inf)), method=method, unit=unit)
    few = "; too few for the quantile" if rule.method == "quantile" else ""
    method = f"median and median absolute deviation of {len(normal)} validation normals{few}, {promise}"
    return Threshold(value=_by_deviation(normal, rule.false_alarm_rate), method=method, unit=unit)


def conformal_rank(count: int, rate: float) -> int:
    """Rank (from 1) of the score that a new, exchangeable one exceeds with at most some probability.

    Vovk et al. 2005, Algorithmic Learning in a Random World; more than ``count`` if ``count`` is too small for it.
    """
    return math.ceil((count + 1) * (1 - rate) - 1e-9)


def _by_deviation(normal: Scores, rate: float) -> float:
    from scipy.stats import norm

    median = float(np.median(normal))
    deviation = _TO_DEVIATION * float(np.median(np.abs(normal - median)))
    # One picture alone has no deviation; half its score on top is better than calling every other picture anomalous.
    deviation = deviation or 0.5 * abs(median) or 1e-6
    return median + float(norm.isf(rate)) * deviation


def _best_f1(normal: Scores, anomalous: Scores) -> float:
    if not len(anomalous):
        raise InvalidRecipe(
            "threshold method 'f1' needs labelled anomalies in the validation split: set the split's anomalies_in to "
            "[validation, test], or use 'quantile' or 'mad', which need normal pictures only."
        )
    candidates = np.unique(np.concatenate([normal, anomalous]))
    found = (anomalous[:, None] >= candidates).sum(axis=0)
    false = (normal[:, None] >= candidates).sum(axis=0)
    f1 = 2 * found / (found + false + len(anomalous))
    best = int(np.argmax(f1))
    # In the middle of the gap below the best candidate, so that neither class lies right at the threshold.
    return float(candidates[best] if best == 0 else (candidates[best - 1] + candidates[best]) / 2)
