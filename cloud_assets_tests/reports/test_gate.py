import math
from typing import Literal

import pytest

from cloud_assets.reports.bootstrap import Interval
from cloud_assets.reports.gate import Gate


@pytest.mark.parametrize(
    ("candidate", "champion", "accepted"),
    [
        (0.8, None, True),
        (0.8, 0.7, True),
        (0.8, 0.8, False),
        (0.7, 0.8, False),
        (math.nan, None, False),
        (0.8, math.nan, False),
    ],
)
def test_a_champion_is_only_replaced_by_one_that_is_better(
    candidate: float, champion: float | None, accepted: bool
) -> None:
    decision = Gate(metric="iou").decide({"iou": candidate}, None if champion is None else {"iou": champion})
    assert decision.accepted is accepted
    assert decision.reason.startswith("accepted" if accepted else "rejected")


def test_less_is_better_turns_every_comparison_round() -> None:
    gate = Gate(metric="rmse", mode="min", minimum=0.1, must_beat=("baseline_rmse",))
    assert gate.decide({"rmse": 0.05, "baseline_rmse": 0.06}, {"rmse": 0.055}).accepted
    assert not gate.decide({"rmse": 0.05, "baseline_rmse": 0.06}, {"rmse": 0.04}).accepted
    assert not gate.decide({"rmse": 0.05, "baseline_rmse": 0.04}, None).accepted
    assert "at most 0.1000" in gate.decide({"rmse": 0.2, "baseline_rmse": 0.3}, None).reason


def test_a_floor_and_baselines_stand_before_the_champion() -> None:
    gate = Gate(metric="iou", minimum=0.5, must_beat=("baseline_iou",))
    assert not gate.decide({"iou": 0.4, "baseline_iou": 0.1}, {"iou": 0.2}).accepted
    assert "does not beat baseline_iou" in gate.decide({"iou": 0.6, "baseline_iou": 0.6}, None).reason
    assert "not measured" in gate.decide({"iou": 0.6}, None).reason
    assert gate.decide({"iou": 0.5, "baseline_iou": 0.4}, None).accepted


def test_the_margin_is_asked_for_on_top_of_the_champion() -> None:
    gate = Gate(metric="iou", margin=0.02)
    assert not gate.decide({"iou": 0.71}, {"iou": 0.70}).accepted
    assert gate.decide({"iou": 0.73}, {"iou": 0.70}).accepted
    assert gate.decide({"iou": 0.71}, None).accepted


@pytest.mark.parametrize(
    ("evidence", "low", "accepted"),
    [("interval", 0.03, True), ("interval", -0.01, False), ("interval", 0.005, False), ("estimate", -0.01, True)],
)
def test_the_whole_interval_has_to_lie_above_the_margin(
    evidence: Literal["interval", "estimate"], low: float, accepted: bool
) -> None:
    gate = Gate(metric="iou", margin=0.01, evidence=evidence)
    decision = gate.decide({"iou": 0.75}, {"iou": 0.70}, Interval(0.05, low, 0.11, 0.95, 12))
    assert decision.accepted is accepted
    assert (
        f"better by 0.0500 [{low:.4f}, 0.1100] (95% interval of the paired difference over 12 scenes)"
        in decision.reason
    )
    assert "more than 0.01 is asked for" in decision.reason


def test_less_is_better_turns_the_interval_round() -> None:
    gate = Gate(metric="rmse", mode="min")
    better, unsure = Interval(-0.05, -0.09, -0.01, 0.95, 12), Interval(-0.05, -0.12, 0.02, 0.95, 12)
    assert gate.decide({"rmse": 0.05}, {"rmse": 0.1}, better).accepted
    assert "[0.0100, 0.0900]" in gate.decide({"rmse": 0.05}, {"rmse": 0.1}, better).reason
    assert not gate.decide({"rmse": 0.05}, {"rmse": 0.1}, unsure).accepted


def test_an_interval_that_is_none_proves_nothing() -> None:
    broken = Interval(0.1, math.nan, math.nan, 0.95, 3)
    assert not Gate(metric="iou").decide({"iou": 0.8}, {"iou": 0.7}, broken).accepted


def test_the_reason_names_both_values() -> None:
    reason = Gate(metric="iou").decide({"iou": 0.7}, {"iou": 0.81}).reason
    assert "0.7000" in reason
    assert "0.8100" in reason
