"""Backfills of scenes on a cluster: asking for them, following them, and what became of each scene."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from cloud_assets.orchestration.scene_assets import GROUP, SCENE_PRODUCTS
from cloud_assets.scenes.production import deaths
from cloud_assets_tests.cluster.machines import Cluster, processes_of
from cloud_assets_tests.orchestration.scene_place import write_scene

LARGE = 1000
"""Side of a scene that takes long enough to be killed in."""
_BACKFILL = """
mutation {
  launchPartitionBackfill(
    backfillParams: {assetSelection: [{path: ["scenes", "scene_products"]}], partitionNames: %s}
  ) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


def backfill(cluster: Cluster, instance: dg.DagsterInstance, keys: list[str]) -> str:
    """Asks for the products of scenes as the button of the user interface does."""
    instance.add_dynamic_partitions(GROUP, keys)
    return str(cluster.ask(_BACKFILL % json.dumps(keys))["backfillId"])


def runs_of(instance: dg.DagsterInstance, one: str) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": one})))


def finished(instance: dg.DagsterInstance, one: str, count: int) -> Callable[[], list[dg.DagsterRun]]:
    """Whether all runs of a backfill have ended and are not going to be repeated."""

    def runs() -> list[dg.DagsterRun]:
        found = runs_of(instance, one)
        first = [run for run in found if run.root_run_id is None]
        is_over = all(run.is_finished for run in found) and len(first) == count
        repeated = {run.parent_run_id for run in found}
        # A failed run is told a moment later whether it will be repeated.
        failed = [run for run in found if run.status is dg.DagsterRunStatus.FAILURE]
        waits = [r for r in failed if r.tags.get("dagster/will_retry") != "false" and r.run_id not in repeated]
        return found if is_over and not waits else []

    return runs


def told(instance: dg.DagsterInstance, key: str) -> list[str]:
    """How each materialisation of a scene came about: ``made``, or ``unchanged: …``."""
    wanted = dg.AssetRecordsFilter(asset_key=SCENE_PRODUCTS, asset_partitions=[key])
    records = instance.fetch_materializations(wanted, limit=10).records
    return [str(record.asset_materialization.metadata["how"].value) for record in records]  # type: ignore[union-attr]


def tries(cluster: Cluster, scene: Path) -> int:
    """How many processes have begun a scene and not ended it."""
    return deaths(Path(cluster.environment["CLOUD_ASSETS_WORK"]) / "scenes" / scene.stem)


def send(signal_number: signal.Signals, run: dg.DagsterRun) -> None:
    """Sends a signal to the processes of a run; SIGKILL is what the kernel does where memory ends."""
    for pid in processes_of(run.run_id):
        os.kill(pid, signal_number)


def run_of(instance: dg.DagsterInstance, backfill: str, key: str) -> dg.DagsterRun:
    """The run that is making a scene."""
    order = list(instance.get_dynamic_partitions(GROUP))
    for run in runs_of(instance, backfill):
        first, last = (order.index(run.tags[f"dagster/asset_partition_range_{end}"]) for end in ("start", "end"))
        if run.status is dg.DagsterRunStatus.STARTED and key in order[first : last + 1]:
            return run
    raise AssertionError(f"no run is making {key}")


def scenes(cluster: Cluster, numbers: range, *large: int) -> list[Path]:
    inbox = Path(cluster.environment["CLOUD_ASSETS_INBOX"])
    return [write_scene(inbox, one, *([LARGE, LARGE] if one in large else [64, 64])) for one in numbers]
