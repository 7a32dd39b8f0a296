import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.families.anomaly.recipe import ThresholdRule
from cloud_assets.families.anomaly.train import choose_threshold, conformal_rank

NOBODY = np.array([])


def test_the_quantile_keeps_its_promise_on_average() -> None:
    rng = np.random.default_rng(0)
    rule = ThresholdRule(false_alarm_rate=0.1)
    rates = []
    for _ in range(400):
        threshold = choose_threshold(rule, rng.gamma(1.0, size=22), NOBODY, "x").value
        rates.append((rng.gamma(1.0, size=500) >= threshold).mean())
    # The 21st of 22: 2 of 23 places for a new score lie above it.
    assert np.mean(rates) == pytest.approx(2 / 23, abs=0.012)


def test_too_few_normals_fall_back_on_deviations_and_say_so() -> None:
    assert conformal_rank(8, 0.1) == 9
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    threshold = choose_threshold(ThresholdRule(), scores, NOBODY, "x")
    assert "too few" in threshold.method
    assert threshold.value == pytest.approx(3 + 1.2815516 * 1.4826)


def test_deviations_ignore_an_outlier() -> None:
    rule = ThresholdRule(method="mad", false_alarm_rate=0.05)
    clean = np.linspace(1, 2, 21)
    with_outlier = np.r_[clean, 500.0]
    values = [choose_threshold(rule, scores, NOBODY, "x").value for scores in (clean, with_outlier)]
    assert values[1] == pytest.approx(values[0], rel=0.1)


def test_it_is_never_the_smallest_normal_score() -> None:
    scores = np.linspace(1, 2, 30)
    for method in ("quantile", "mad"):
        assert choose_threshold(ThresholdRule(method=method), scores, NOBODY, "x").value > np.median(scores)


def test_best_f1_lies_in_the_gap() -> None:
    rule = ThresholdRule(method="f1")
    threshold = choose_threshold(rule, np.array([1.0, 2.0]), np.array([4.0, 5.0]), "x")
    assert threshold.value == 3.0
    with pytest.raises(InvalidRecipe, match="anomalies_in"):
        choose_threshold(rule, np.array([1.0, 2.0]), NOBODY, "x")


def test_fixed_and_nothing_to_go_by() -> None:
    assert choose_threshold(ThresholdRule(method="fixed", value=0.3), NOBODY, NOBODY, "x").value == 0.3
    with pytest.raises(NoUsablePatches):
        choose_threshold(ThresholdRule(), NOBODY, NOBODY, "x")
    with pytest.raises(ValidationError):
        ThresholdRule(method="fixed")
    with pytest.raises(ValidationError):
        ThresholdRule(value=0.3)
