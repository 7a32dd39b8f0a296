"""What Dagster makes of drift and suspicious labels: checks in two grades, and a training after severe drift."""

from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from cloud_assets.definitions import defs
from cloud_assets.lifecycle.drift import BatchDrift, DriftReport
from cloud_assets.lifecycle.suspicious_labels import LIST, SuspiciousLabels
from cloud_assets.orchestration.champion_assets import DRIFT, LEVEL, monitoring_keys
from cloud_assets.orchestration.checks import check_drift, check_labels
from cloud_assets.orchestration.jobs import monitoring_job_name
from cloud_assets.tasks import ALL_TASKS
from cloud_assets.tasks.landsat_segmentation import TASK
from cloud_assets.tasks.task import Task


def report(level: str) -> DriftReport:
    batch = BatchDrift("20 scenes", "recent scenes", "2026", level, 0.001, 60, 20, "dark_red", 0.6, 0.7)  # type: ignore[arg-type]
    return DriftReport(task="clouds", model_version="m", batches=(batch,))


@pytest.mark.parametrize(
    ("level", "no_drift", "no_severe"), [("steady", True, True), ("warning", False, True), ("severe", False, False)]
)
def test_drift_has_two_grades(level: str, no_drift: bool, no_severe: bool) -> None:
    mild, severe = check_drift(report(level))
    assert (mild.passed, mild.severity) == (no_drift, dg.AssetCheckSeverity.WARN)
    assert (severe.passed, severe.severity) == (no_severe, dg.AssetCheckSeverity.ERROR)
    assert severe.metadata["retraining_requested"].value is (level == "severe")
    assert "dark_red" in str(mild.description)


def test_a_blind_report_does_not_pass_for_a_steady_one() -> None:
    mild, severe = check_drift(
        DriftReport(task="clouds", model_version="m", notes=["The card has no reference."], is_blind=True)
    )
    assert not mild.passed
    assert severe.passed
    assert "no reference" in str(mild.description)


def test_labels_worth_a_look_are_named() -> None:
    table = pd.DataFrame({"patch_id": ["bad", "so_so"], "suspicion": [0.9, 0.2]})
    labels = SuspiciousLabels(
        task="clouds", model_version="m", patches_version="p", looked_at=10, learnt_from=5, tables={LIST: table}
    )
    (result,) = check_labels(labels)
    assert not result.passed
    assert "1 of 10 labels: bad" in str(result.description)
    (good,) = check_labels(replace(labels, tables={LIST: table.tail(1)}))
    assert good.passed


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task.name)
def test_monitoring_has_a_job_of_its_own(task: Task) -> None:
    keys = set(monitoring_keys(task))
    assert defs.resolve_job_def(monitoring_job_name(task)).asset_layer.executable_asset_keys >= keys
    assert not keys & set(defs.resolve_job_def(task.name).asset_layer.selected_asset_keys)


def evaluated(instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    name = f"{TASK.name}_retraining_on_drift"
    with dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs, sensor_name=name) as context:
        return defs.resolve_sensor_def(name).evaluate_tick(context)


def test_severe_drift_asks_for_a_training_once() -> None:
    key = dg.AssetKey([TASK.name, DRIFT])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata={LEVEL: "warning"}))
        first = evaluated(instance)
        assert not first.run_requests
        assert "warning" in str(first.skip_message)
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata={LEVEL: "severe"}))
        second = evaluated(instance, first.cursor)
        assert len(second.run_requests) == 1
        assert not evaluated(instance, second.cursor).run_requests


def test_the_sensors_are_off_until_switched_on() -> None:
    for task in ALL_TASKS:
        sensor = defs.resolve_sensor_def(f"{task.name}_retraining_on_drift")
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
