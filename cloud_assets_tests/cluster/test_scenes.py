"""A backfill of scenes over two nodes: a process killed, a node lost, a scene that kills whoever takes it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.orchestration.scene_assets import GROUP, SCENE_PRODUCTS
from cloud_assets.scenes.product_record import RECORD_FILE
from cloud_assets.scenes.production import deaths
from cloud_assets_tests.cluster.machines import Cluster, processes_of, wait_until
from cloud_assets_tests.orchestration.scene_place import write_scene

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

A_RUN = 4
"""As ``CLOUD_ASSETS_SCENES_A_RUN`` of the cluster."""
LARGE = 1000
"""Side of a scene that takes long enough to be killed in."""
BACKFILL = """
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
    printed = cluster.command("dagster-graphql", "-m", "cloud_assets.definitions", "-t", BACKFILL % json.dumps(keys))
    answer = next(line for line in printed.splitlines() if line.startswith("{"))
    return str(json.loads(answer)["data"]["launchPartitionBackfill"]["backfillId"])


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


def test_a_node_lost_and_a_process_killed_in_a_scene(cluster: Cluster, instance: dg.DagsterInstance) -> None:
    made = scenes(cluster, range(50, 50 + 2 * A_RUN), 51, 55)
    keys = [scene.name for scene in made]
    one = backfill(cluster, instance, keys)
    large = {1, 5}
    while large:
        begun = lambda waiting=frozenset(large): {one for one in waiting if tries(cluster, made[one])}  # noqa: E731
        ready = wait_until(begun, "a large scene", 400)
        for number in ready:
            send(signal.SIGSTOP, run_of(instance, one, keys[number]))
        large -= ready
    cluster.kill("worker")
    (left,) = [run for run in runs_of(instance, one) if processes_of(run.run_id)]  # the other was on that node
    send(signal.SIGKILL, left)
    cluster.start_worker("worker")
    runs = wait_until(finished(instance, one, 2), "the backfill", 600)
    assert sorted(run.status.value for run in runs) == ["FAILURE", "FAILURE", "SUCCESS", "SUCCESS"]
    for key in keys:
        assert told(instance, key).count("made") == 1, "none twice"
    stored = {item.key for item in cluster.bucket().objects.filter(Prefix="home/scenes/")}
    assert {f"home/scenes/{scene.stem}/{RECORD_FILE}" for scene in made} <= stored


def test_a_scene_that_kills_whoever_takes_it_is_named_and_takes_no_other_with_it(
    cluster: Cluster, instance: dg.DagsterInstance
) -> None:
    made = scenes(cluster, range(30, 30 + A_RUN), 30)
    keys = [scene.name for scene in made]
    one = backfill(cluster, instance, keys)
    for number in (1, 2):
        wait_until(lambda: tries(cluster, made[0]) == number, "the scene", 400)  # noqa: B023
        send(signal.SIGKILL, run_of(instance, one, keys[0]))
    runs = wait_until(finished(instance, one, 1), "the backfill", 600)
    assert len(runs) == 3
    assert all(told(instance, key).count("made") == 1 for key in keys[1:])
    assert told(instance, keys[0]) == []
    failures = [
        record.dagster_event.step_failure_data.error.to_string()  # type: ignore[union-attr]
        for record in instance.all_logs(runs[0].run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    ]
    assert "1 of 4 scenes failed" in failures[0]
    assert f"{made[0].stem}: 2 processes in a row died" in failures[0]
