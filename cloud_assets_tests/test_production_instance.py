"""The example of an instance for production is one that Dagster takes, and says what the README promises."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorType, TickStatus

from cloud_assets.definitions import defs

EXAMPLE = Path(__file__).resolve().parents[1] / "dagster.production.yaml"


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


def test_training_steps_share_the_pool() -> None:
    pooled = {
        asset.key.path[-1]
        for asset in defs.resolve_asset_graph().asset_nodes
        if asset.is_executable and asset.pools == {"gpu"}
    }
    assert {"unet_model", "unet_report", "champion_evaluation", "hyperparameter_study"} <= pooled
