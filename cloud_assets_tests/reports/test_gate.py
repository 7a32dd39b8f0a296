import math
from typing import Literal

import pytest

from cloud_assets.reports.comparison import Gate
from cloud_assets.reports.evaluation import TRIVIAL_RULES
from cloud_assets.reports.report import readable
from cloud_assets.reports.statistics import Interval

RULE = {"baseline_iou": 0.1}


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
    decision = Gate(metric="iou").decide(
        {"iou": candidate, "baseline_iou": 0.1}, None if champion is None else {"iou": champion}
    )
    assert decision.accepted is accepted
    assert decision.reason.startswith("accepted" if accepted else "rejected")


def test_less_is_better_turns_every_comparison_round() -> None:
    gate = Gate(metric="rmse", mode="min", minimum=0.1)
    assert gate.decide({"rmse": 0.05, "baseline_rmse": 0.06}, {"rmse": 0.055}).accepted
    assert not gate.decide({"rmse": 0.05, "baseline_rmse": 0.06}, {"rmse": 0.04}).accepted
    assert not gate.decide({"rmse": 0.05, "baseline_rmse": 0.04}, None).accepted
    assert "at most 0.1000" in gate.decide({"rmse": 0.2, "baseline_rmse": 0.3}, None).reason


def test_a_floor_and_baselines_stand_before_the_champion() -> None:
    gate = Gate(metric="iou", minimum=0.5)
    assert not gate.decide({"iou": 0.4, "baseline_iou": 0.1}, {"iou": 0.2}).accepted
    assert "does not beat Baseline IoU" in gate.decide({"iou": 0.6, "baseline_iou": 0.6}, None).reason
    assert "not measured" in gate.decide({"iou": 0.6}, None).reason
    assert gate.decide({"iou": 0.5, "baseline_iou": 0.4}, None).accepted


def test_a_lower_minimum_is_advised_only_where_it_helps() -> None:
    gate = Gate(metric="iou", minimum=0.5)
    assert "lower the gate's minimum" in gate.remedy({"iou": 0.4, "baseline_iou": 0.1})
    assert "lower" not in gate.remedy({"iou": 0.4, "baseline_iou": 0.45})
    assert "trivial rules" in gate.remedy({"iou": 0.6, "baseline_iou": 0.65})
    assert gate.remedy({"iou": 0.6, "baseline_iou": 0.1}) == ""


@pytest.mark.parametrize("rule", TRIVIAL_RULES)
def test_a_model_that_a_trivial_rule_beats_is_never_champion_whatever_the_task_declares(rule: str) -> None:
    metrics = {"iou": 0.539, "baseline_iou": 0.1, f"{rule}_iou": 0.788}
    assert f"does not beat {readable(rule)} IoU 0.7880" in Gate(metric="iou").decide(metrics, None).reason
    assert not Gate(metric="iou", must_beat=("peer_iou",)).passes({**metrics, "peer_iou": 0.2}).accepted
    assert not Gate(metric="iou", margin=0.5, evidence="estimate").decide(metrics, {"iou": 0.0}).accepted


def test_more_metrics_can_be_named_that_have_to_be_beaten() -> None:
    gate = Gate(metric="iou", must_beat=("peer_iou",))
    assert "'peer_iou', which has to be beaten, was not measured" in gate.passes({"iou": 0.6, **RULE}).reason
    assert "does not beat Peer IoU" in gate.passes({"iou": 0.6, **RULE, "peer_iou": 0.7}).reason
    assert gate.passes({"iou": 0.6, **RULE, "peer_iou": 0.5}).accepted


def test_a_lead_within_the_noise_is_called_so() -> None:
    metrics = {"iou": 0.405, "baseline_iou": 0.4028, "all_cloud_iou": 0.2}
    said = Gate(metric="iou").decide(metrics, None, interval=Interval(0.405, 0.37, 0.44, 0.95, 12)).reason
    assert "lead over Baseline IoU 0.4028 is within the noise" in said
    assert "0.3700 to 0.4400 over 12 scenes" in said
    assert "noise" not in Gate(metric="iou").passes(metrics, Interval(0.405, 0.404, 0.44, 0.95, 12)).reason
    less = Gate(metric="rmse", mode="min")
    found = {"rmse": 0.1, "baseline_rmse": 0.11}
    assert "noise" in less.passes(found, Interval(0.1, 0.08, 0.12, 0.95, 12)).reason
    assert "noise" not in less.passes(found, Interval(0.1, 0.08, 0.105, 0.95, 12)).reason


def test_the_margin_is_asked_for_on_top_of_the_champion() -> None:
    gate = Gate(metric="iou", margin=0.02)
    assert not gate.decide({"iou": 0.71, **RULE}, {"iou": 0.70}).accepted
    assert gate.decide({"iou": 0.73, **RULE}, {"iou": 0.70}).accepted
    assert gate.decide({"iou": 0.71, **RULE}, None).accepted


@pytest.mark.parametrize(
    ("evidence", "low", "accepted"),
    [("interval", 0.03, True), ("interval", -0.01, False), ("interval", 0.005, False), ("estimate", -0.01, True)],
)
def test_the_whole_interval_has_to_lie_above_the_margin(
    evidence: Literal["interval", "estimate"], low: float, accepted: bool
) -> None:
    gate = Gate(metric="iou", margin=0.01, evidence=evidence)
    decision = gate.decide({"iou": 0.75, **RULE}, {"iou": 0.70}, Interval(0.05, low, 0.11, 0.95, 12))
    assert decision.accepted is accepted
    assert (
        f"better by 0.0500 [{low:.4f}, 0.1100] (95% interval of the paired difference over 12 scenes)"
        in decision.reason
    )
    assert "more than 0.01 is asked for" in decision.reason


def test_less_is_better_turns_the_interval_round() -> None:
    gate = Gate(metric="rmse", mode="min")
    better, unsure = Interval(-0.05, -0.09, -0.01, 0.95, 12), Interval(-0.05, -0.12, 0.02, 0.95, 12)
    assert gate.decide({"rmse": 0.05, "baseline_rmse": 1.0}, {"rmse": 0.1}, better).accepted
    assert "[0.0100, 0.0900]" in gate.decide({"rmse": 0.05, "baseline_rmse": 1.0}, {"rmse": 0.1}, better).reason
    assert not gate.decide({"rmse": 0.05, "baseline_rmse": 1.0}, {"rmse": 0.1}, unsure).accepted


def test_an_interval_that_is_none_proves_nothing() -> None:
    broken = Interval(0.1, math.nan, math.nan, 0.95, 3)
    assert not Gate(metric="iou").decide({"iou": 0.8, **RULE}, {"iou": 0.7}, broken).accepted


def test_the_reason_names_both_values() -> None:
    reason = Gate(metric="iou").decide({"iou": 0.7, **RULE}, {"iou": 0.81}).reason
    assert "0.7000" in reason
    assert "0.8100" in reason
