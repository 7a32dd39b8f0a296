import numpy as np
import pandas as pd
import pytest

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.statistics import metric_interval, paired_difference, scene_table


def scenes(number: int, seed: int, found: float) -> pd.DataFrame:
    """Scenes of 1000 pixels with very different cloud cover, of which a share is found and a few are false."""
    rng = np.random.default_rng(seed)
    cloud = rng.integers(50, 900, number)
    tp = rng.binomial(cloud, found)
    fp = rng.binomial(1000 - cloud, 0.05)
    return scene_table([f"{n:03d}" for n in range(number)], np.stack([tp, fp, cloud - tp, 1000 - cloud - fp], axis=1))


def test_the_estimate_is_the_metric_of_all_pixels() -> None:
    table = scenes(30, 0, 0.8)
    interval = metric_interval(table, "iou")
    assert interval is not None
    total = table[["tp", "fp", "fn"]].sum()
    assert interval.estimate == pytest.approx(total["tp"] / total.sum())
    assert interval.low < interval.estimate < interval.high
    assert interval.groups == 30


def test_equal_models_differ_by_nothing() -> None:
    table = scenes(12, 0, 0.8)
    shuffled = table.sample(frac=1, random_state=1)
    difference = paired_difference(table, shuffled, "iou")
    assert difference is not None
    assert (difference.estimate, difference.low, difference.high) == (0, 0, 0)


def test_pairing_sees_a_small_gain_that_scenes_would_hide() -> None:
    champion = scenes(25, 3, 0.80)
    candidate = champion.assign(tp=champion["tp"] + 5, fn=champion["fn"] - 5)
    difference, alone = paired_difference(candidate, champion, "iou"), metric_interval(champion, "iou")
    assert difference is not None
    assert alone is not None
    assert 0 < difference.low < difference.estimate < difference.high
    assert difference.high - difference.low < (alone.high - alone.low) / 5


def test_intervals_hold_the_truth_as_often_as_they_promise() -> None:
    truth = metric_interval(scenes(4000, 99, 0.8), "iou")
    assert truth is not None
    held = 0
    for seed in range(60):
        interval = metric_interval(scenes(25, seed, 0.8), "iou", seed=seed)
        assert interval is not None
        held += interval.low <= truth.estimate <= interval.high
    assert 50 <= held <= 60  # 57 expected; the percentile interval of 25 scenes is a little narrow


def test_scenes_without_cloud_do_not_break_it() -> None:
    counts = np.zeros((6, 4), int)
    counts[:, 3], counts[0, 0] = 100, 40
    interval = metric_interval(scene_table(list("abcdef"), counts), "iou")
    assert interval is not None
    assert (interval.low, interval.high) == (1, 1)


def test_other_tables_are_averaged_by_column() -> None:
    table = pd.DataFrame({"group": list("abcd"), "psnr": [20.0, 22.0, 24.0, 26.0]})
    interval = metric_interval(table, "psnr")
    assert interval is not None
    assert interval.estimate == 23
    assert 20 <= interval.low < 23 < interval.high <= 26
    with pytest.raises(InvalidReport, match="no column 'ssim'"):
        metric_interval(table, "ssim")


def test_one_scene_has_no_interval_and_other_scenes_cannot_be_paired() -> None:
    assert metric_interval(scenes(1, 0, 0.8), "iou") is None
    with pytest.raises(InvalidReport, match="different scenes"):
        paired_difference(scenes(3, 0, 0.8), scenes(4, 0, 0.8), "iou")
