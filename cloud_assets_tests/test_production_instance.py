"""The example of an instance for production is one that Dagster takes, and says what the README promises."""

import shutil
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._utils.tags import TagConcurrencyLimitsCounter

from cloud_assets.definitions import defs
from cloud_assets.orchestration.asset_parts import GPU_POOL
from cloud_assets.orchestration.jobs import SCENE_JOB, SCENES_TAG
from cloud_assets.tasks import ALL_TASKS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "dagster.production.yaml"


def test_the_example_instance_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(EXAMPLE, tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 2
        assert instance.run_monitoring_enabled
        assert instance.freshness_enabled
        kept = instance.get_tick_retention_settings(InstigatorType.SENSOR)
        assert kept[TickStatus.SKIPPED] == 7
        assert kept[TickStatus.SUCCESS] == 90
        concurrency = instance.get_concurrency_config()
        assert concurrency.pool_config.default_pool_limit == 1
        assert concurrency.run_queue_config is not None
        assert concurrency.run_queue_config.max_concurrent_runs == 4
    assert list(tmp_path.rglob("runs.db"))


@pytest.mark.parametrize("name", ["dagster.yaml", "dagster.production.yaml"])
def test_a_killed_run_gives_its_slot_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / name, tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.get() as instance:
        events = instance.event_log_storage
        events.set_concurrency_slots(GPU_POOL, 1)
        run = instance.add_run(dg.DagsterRun(job_name="demo", status=dg.DagsterRunStatus.STARTED))
        assert events.claim_concurrency_slot(GPU_POOL, run.run_id, "unet_model").is_claimed
        instance.report_run_failed(run)
        assert not events.claim_concurrency_slot(GPU_POOL, "its retry", "unet_model").is_claimed
        later = freeze_time(datetime.now(UTC) + timedelta(minutes=5))
        with create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance) as workspace, later:
            assert list(execute_concurrency_slots_iteration(workspace, getLogger())) == [None]
        assert events.claim_concurrency_slot(GPU_POOL, "its retry", "unet_model").is_claimed


def test_runs_of_scenes_have_a_limit_of_their_own() -> None:
    limits = yaml.safe_load(EXAMPLE.read_text())["concurrency"]["runs"]["tag_concurrency_limits"]
    run, other = (dg.DagsterRun(job_name=SCENE_JOB, tags=defs.resolve_job_def(SCENE_JOB).tags) for _ in range(2))
    assert TagConcurrencyLimitsCounter(limits, [run]).is_blocked(other)
    for limit in limits:
        limit["limit"] = 2 if limit["key"] == SCENES_TAG else 1
    assert not TagConcurrencyLimitsCounter(limits, [run]).is_blocked(other)


def test_training_steps_share_the_pool() -> None:
    pooled = {
        asset.key.path[-1]
        for asset in defs.resolve_asset_graph().asset_nodes
        if asset.is_executable and asset.pools == {"gpu"}
    }
    assert {"unet_model", "unet_report", "champion_evaluation", "hyperparameter_study"} <= pooled


def test_one_decision_on_a_champion_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node for node in defs.resolve_asset_graph().asset_nodes if node.key.path[-1] == "champion"]
    shutil.copy(EXAMPLE, tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        events = instance.event_log_storage
        for node in nodes:
            (pool,) = node.pools
            events.initialize_concurrency_limit_to_default(pool)
            first, second = (events.claim_concurrency_slot(pool, run, "champion").is_claimed for run in ("a", "b"))
            assert (first, second) == (True, False), f"of {node.key.to_user_string()}"
    assert len(nodes) == len(ALL_TASKS)
