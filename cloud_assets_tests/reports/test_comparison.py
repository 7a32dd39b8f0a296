from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.comparison import Comparison, Gate, compare
from cloud_assets_tests.reports.test_evaluation import make_evaluation

VARIANTS = {"unet": make_evaluation("unet", 0.7), "attention_unet": make_evaluation("attention_unet", 0.8)}


def test_variants_are_ranked_and_baselines_stand_below() -> None:
    comparison = compare(VARIANTS, Gate(metric="iou"))
    assert comparison.best == "attention_unet"
    assert comparison.table["name"].tolist() == ["attention_unet", "unet", "brightness threshold"]
    assert comparison.table["kind"].tolist() == ["variant", "variant", "baseline"]
    assert comparison.table["iou"].tolist() == [0.8, 0.7, 0.5]
    assert compare(VARIANTS, Gate(metric="iou", mode="min")).best == "unet"


def test_the_table_holds_test_metrics_only() -> None:
    assert list(compare(VARIANTS, Gate(metric="iou")).table.columns) == ["name", "kind", "iou"]


def test_the_decision_is_the_gates() -> None:
    assert compare(VARIANTS, Gate(metric="iou")).decision.accepted
    assert not compare(VARIANTS, Gate(metric="iou", minimum=0.9)).decision.accepted


def test_notes_of_one_variant_carry_its_name() -> None:
    notes = compare(VARIANTS, Gate(metric="iou")).notes
    assert notes == ("shared note", "unet: note of unet", "attention_unet: note of attention_unet")


def test_a_saved_comparison_comes_back_the_same(tmp_path: Path) -> None:
    comparison = compare(VARIANTS, Gate(metric="iou", minimum=0.2))
    comparison.save(tmp_path / "comparison")
    opened = Comparison.open(tmp_path / "comparison")
    pd.testing.assert_frame_equal(opened.table, comparison.table)
    assert (opened.best, opened.gate, opened.decision) == (comparison.best, comparison.gate, comparison.decision)
    assert opened.metrics == comparison.metrics
    assert opened.figures == comparison.figures
    assert opened.data_version == comparison.data_version
    assert "Best variant: attention_unet" in (tmp_path / "comparison" / "report.html").read_text()


def test_an_empty_folder_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(InvalidReport, match="Compare the variants again"):
        Comparison.open(tmp_path)


@pytest.mark.parametrize("what", ["task", "patches_version", "splits_version"])
def test_evaluations_of_different_data_are_not_compared(what: str) -> None:
    other = replace(VARIANTS["unet"], **{what: "another"})
    with pytest.raises(InvalidReport, match=what.replace("_", " ")):
        compare({**VARIANTS, "unet": other}, Gate(metric="iou"))


def test_evaluations_by_different_settings_are_not_compared() -> None:
    few, many = {"windows": 200, "mistakes": 8}, {"windows": 500, "mistakes": 8}
    evaluations = {"few": make_evaluation(recipe=few), "many": make_evaluation(recipe=many)}
    with pytest.raises(InvalidReport, match=r"different settings \(windows 500 and 200\)"):
        compare(evaluations, Gate(metric="iou"))
    assert evaluations["few"].data_version != evaluations["many"].data_version


def test_a_best_variant_within_the_noise_of_a_rule_is_said_to_be(tmp_path: Path) -> None:
    scenes = pd.DataFrame({"group": list("abcdef"), "iou": [0.1, 0.9, 0.2, 0.8, 0.3, 0.75]})
    evaluation = make_evaluation(metrics={"iou": 0.508, "baseline_iou": 0.5}, tables={"per_scene": scenes})
    compare({"unet": evaluation}, Gate(metric="iou")).save(tmp_path / "comparison")
    decision = Comparison.open(tmp_path / "comparison").decision
    assert decision.accepted
    assert "within the noise of the test split" in decision.reason


def test_a_metric_that_was_not_measured_is_named() -> None:
    with pytest.raises(InvalidReport, match=r"'psnr'.*iou"):
        compare(VARIANTS, Gate(metric="psnr"))
    with pytest.raises(InvalidReport, match="nothing to compare"):
        compare({}, Gate(metric="iou"))
