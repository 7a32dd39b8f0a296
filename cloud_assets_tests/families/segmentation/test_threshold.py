import numpy as np
import pytest
from sklearn.metrics import fbeta_score, jaccard_score, precision_score, recall_score

from cloud_assets.families.segmentation.threshold import ThresholdSearch


def test_a_known_answer_with_a_tie_goes_to_the_threshold_nearest_to_a_half() -> None:
    search = ThresholdSearch()
    # Everything from 0.31 to 0.8 separates the two perfectly.
    search.update(np.array([0.1, 0.3, 0.8, 0.9], np.float32), np.array([0, 0, 1, 1], np.uint8))
    threshold, iou = search.best()
    assert threshold.value == 0.5
    assert iou == 1.0


def test_a_known_answer_away_from_a_half() -> None:
    search = ThresholdSearch()
    search.update(np.array([0.1, 0.6, 0.7, 0.9], np.float32), np.array([0, 0, 1, 1], np.uint8))
    threshold, iou = search.best()
    assert threshold.value == pytest.approx(0.61)
    assert iou == 1.0


def patch_that_prefers(value: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A patch whose clear and cloudy pixels mix least at a probability."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 4000).astype(np.uint8)
    probability = np.clip(rng.normal(value + 0.16 * (truth - 0.5), 0.08), 0, 1)
    return probability.astype(np.float32), truth


def test_patches_that_agree_overrule_the_half() -> None:
    search = ThresholdSearch()
    for seed in range(6):
        search.update(*patch_that_prefers(0.3, seed))
    thresholds, iou = search.curve()
    assert search.best()[0].value == pytest.approx(thresholds[iou.argmax()], abs=0.02)


def test_patches_that_disagree_do_not() -> None:
    search = ThresholdSearch()
    for seed, value in enumerate((0.15, 0.2, 0.55, 0.6)):
        search.update(*patch_that_prefers(value, seed))
    thresholds, iou = search.curve()
    best = thresholds[iou.argmax()]
    chosen, achieved = search.best()
    assert abs(best - 0.5) > 0.1
    assert abs(chosen.value - 0.5) < abs(best - 0.5)
    assert achieved == iou[round(chosen.value * 100) - 1]


def test_the_curve_is_the_jaccard_score_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 5000).astype(np.uint8)
    probability = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1).astype(np.float32)
    probability[:100] = np.float32(0.25)  # exactly at a candidate: at or above is cloud
    probability[100:110] = 1.0
    truth[rng.random(5000) < 0.2] = 255
    search = ThresholdSearch()
    for part in np.array_split(np.arange(5000), 7):
        search.update(probability[part], truth[part])
    thresholds, iou = search.curve()
    labelled = truth != 255
    for position in (0, 24, 49, 98):
        decided = probability[labelled] >= np.float32(thresholds[position])
        assert iou[position] == pytest.approx(jaccard_score(truth[labelled], decided))


def test_without_any_cloud_it_stays_at_a_half() -> None:
    search = ThresholdSearch()
    search.update(np.array([0.1, 0.9], np.float32), np.array([0, 255], np.uint8))
    threshold, iou = search.best()
    assert (threshold.value, iou) == (0.5, 0.0)
    assert "want of cloud" in threshold.method


def test_operating_points_trade_precision_for_recall_as_scikit_learn_counts_them() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(20_000) < 0.3).astype(np.uint8)
    probability = np.clip(rng.normal(0.35 + 0.25 * truth, 0.15), 0, 1).astype(np.float32)
    search = ThresholdSearch()
    search.update(probability, truth)
    points = search.operating_points("fakes")
    assert list(points) == ["sensitive", "balanced", "strict"]
    assert points["balanced"].threshold == search.best()[0].value
    for beta, name in ((2.0, "sensitive"), (0.5, "strict")):
        point = points[name]
        called = probability >= np.float32(point.threshold)
        assert point.precision == pytest.approx(precision_score(truth, called), abs=1e-4)
        assert point.recall == pytest.approx(recall_score(truth, called), abs=1e-4)
        scores = [fbeta_score(truth, probability >= np.float32(step / 100), beta=beta) for step in range(1, 100)]
        assert fbeta_score(truth, called, beta=beta) == pytest.approx(max(scores), abs=1e-6)
    assert points["sensitive"].recall > points["balanced"].recall > points["strict"].recall
    assert points["sensitive"].precision < points["balanced"].precision < points["strict"].precision
    assert ThresholdSearch().operating_points("nothing") == {}
