"""A champion that changes makes the scenes of the last days stale, and has them made again."""

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.orchestration.resources import Tracking
from cloud_assets.orchestration.scene_assets import GROUP, SCENE_PRODUCTS
from cloud_assets.orchestration.scene_automation import champion_sensor, recent_scenes
from cloud_assets.tracking import Tracker

TASK = "landsat_segmentation"


@pytest.fixture
def registry(tmp_path: Path, tiny_bundle: Callable[..., ModelBundle]) -> Tracker:
    """A registry with two versions of one task and no champion."""
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    for seed in range(2):
        bundle = tiny_bundle(task=TASK, seed=seed)
        (tmp_path / str(seed)).mkdir()
        tracker.register(tracker.publish(tmp_path / str(seed), bundle), bundle, {})
    return tracker


def look(tracker: Tracker, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorEvaluationContext:
    resources = {"tracking": Tracking(uri=tracker.uri)}
    with dg.build_sensor_context(instance, cursor=cursor, resources=resources) as context:
        return champion_sensor.evaluate_tick(context)  # type: ignore[return-value]


def test_scenes_are_made_again_when_the_champion_is_another(registry: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(GROUP, ["a", "b", "c", "new"])
        for key in ("a", "b", "gone"):
            instance.report_runless_asset_event(dg.AssetMaterialization(SCENE_PRODUCTS, partition=key))
        first = look(registry, instance, None)
        assert not first.run_requests  # type: ignore[attr-defined]
        registry.set_alias(TASK, "champion", 1)
        second = look(registry, instance, first.cursor)
        (request,) = second.run_requests  # type: ignore[attr-defined]
        assert request.tags["dagster/asset_partition_range_start"] == "a"
        assert request.tags["dagster/asset_partition_range_end"] == "b"
        stale = {event.partition: event.metadata["because"].value for event in second.asset_events}  # type: ignore[attr-defined]
        assert stale == dict.fromkeys(("a", "b"), f"{TASK}: none → 1")
        third = look(registry, instance, second.cursor)
        assert not third.run_requests  # type: ignore[attr-defined]
        registry.set_alias(TASK, "champion", 2)
        monkeypatch.setenv("CLOUD_ASSETS_STALE_DAYS", "0")
        fourth = look(registry, instance, third.cursor)
        assert not fourth.run_requests  # type: ignore[attr-defined]
        assert json.loads(str(fourth.cursor)) == {TASK: 2}
        assert recent_scenes(instance, 1) == {"a", "b"}


def test_a_registry_that_is_away_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with dg.DagsterInstance.ephemeral() as instance:
        tick = look(Tracker(f"sqlite:///{tmp_path}/file/mlflow.db"), instance, '{"clouds": 1}')
    assert not tick.run_requests  # type: ignore[attr-defined]
    assert tick.cursor in (None, '{"clouds": 1}')
