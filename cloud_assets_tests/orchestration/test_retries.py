"""Outages are tried again, a training goes on where it was, and what is wrong with data ends the step at once."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from mlflow import MlflowClient
from sqlalchemy.exc import OperationalError

from cloud_assets.errors import InvalidRecipe, TrackingUnavailable, TrainingFailed
from cloud_assets.orchestration.asset_parts import RETRIES, only_outages_are_retried
from cloud_assets.worker_processes import WorkerDied
from cloud_assets_tests.orchestration.small_task import Made, definitions, small_task, write_patches


def _a_rank_died() -> TrainingFailed:
    """As :func:`cloud_assets.learning.ranks.train_in_ranks` raises it."""
    error = TrainingFailed("one of 2 ranks died")
    error.__cause__ = WorkerDied("killed")
    return error


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (TrackingUnavailable("away"), 3), (ConnectionResetError("gone"), 3), (InvalidRecipe("impossible"), 1),
        (TrainingFailed("diverged"), 1), (_a_rank_died(), 3),
    ],
)  # fmt: skip
def test_only_outages_are_worth_another_try(error: Exception, attempts: int) -> None:
    tried = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def step() -> None:
        tried.append(1)
        with only_outages_are_retried():
            raise error

    done = dg.materialize([step], raise_on_error=False)
    assert not done.success
    assert len(tried) == attempts
    assert str(error) in str(done.failure_data_for_node("step"))


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [(OperationalError("SELECT", {}, Exception("server closed the connection")), True), (ValueError("broken"), False)],
)
def test_a_run_whose_records_were_away_outside_of_its_functions_is_started_again(
    error: Exception, is_retried: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster: runs are retried whose process died, not those of which a step failed."""
    write_patches(tmp_path, range(10))
    job = definitions(small_task(), tmp_path).resolve_job_def("clouds")
    settings = {"run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}}
    read = dg.DagsterInstance.get_asset_records

    def away(instance: dg.DagsterInstance, keys: list[dg.AssetKey] | None = None) -> object:
        """What Dagster asks after the function of the step has ended."""
        if keys and keys[0].path[-1] == "labeled_patches":
            raise error
        return read(instance, keys)

    monkeypatch.setattr(dg.DagsterInstance, "get_asset_records", away)
    with dg.instance_for_test(overrides=settings) as instance:
        done = job.execute_in_process(instance=instance, raise_on_error=False)
        assert not done.success
        assert {event.step_key for event in done.get_step_failure_events()} == {"clouds__labeled_patches"}
        run = instance.get_run_by_id(done.run_id)
        assert run is not None
        assert auto_reexecution_should_retry_run(instance, run, RunFailureReason.STEP_FAILURE) is is_retried


def test_tries_lie_further_and_further_apart() -> None:
    assert RETRIES.backoff is dg.Backoff.EXPONENTIAL
    assert RETRIES.jitter is dg.Jitter.PLUS_MINUS
    delays = [RETRIES.calculate_delay(number) for number in (1, 2, 3)]
    assert delays[0] < 2 * 3 < delays[2] + 3


def test_a_training_that_is_tried_again_resumes(tmp_path: Path) -> None:
    write_patches(tmp_path, range(10))
    task = small_task(variants={"first": Made(dies=True)}, optional_variants=())
    keys = [
        dg.AssetKey(["clouds", *name]) for name in (["raw_scenes"], ["labeled_patches"], ["splits"], ["first_model"])
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        done = (
            definitions(task, tmp_path)
            .resolve_job_def("clouds")
            .execute_in_process(instance=instance, asset_selection=keys)
        )
        assert done.success
        event = instance.get_latest_materialization_event(keys[-1])
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["how"].value == "resumed"
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("clouds").experiment_id])
    assert run.info.status == "FINISHED"
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "loss")] == [0, 1]
