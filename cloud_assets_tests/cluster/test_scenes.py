"""A backfill of scenes over two nodes: a process killed, a node lost, a scene that kills whoever takes it."""

import signal

import dagster as dg
import pytest

from cloud_assets.scenes.product_record import RECORD_FILE
from cloud_assets_tests.cluster.backfills import backfill, finished, run_of, runs_of, scenes, send, told, tries
from cloud_assets_tests.cluster.machines import Cluster, processes_of, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(5400)]

A_RUN = 4


@pytest.fixture(scope="module", autouse=True)
def _runs_of_few_scenes(cluster: Cluster) -> None:
    """Another module may have asked for longer runs."""
    if cluster.environment["CLOUD_ASSETS_SCENES_A_RUN"] != str(A_RUN):
        cluster.restart(CLOUD_ASSETS_SCENES_A_RUN=str(A_RUN))


def test_a_node_lost_and_a_process_killed_in_a_scene(cluster: Cluster, instance: dg.DagsterInstance) -> None:
    made = scenes(cluster, range(50, 50 + 2 * A_RUN), 51, 55)
    keys = [scene.name for scene in made]
    one = backfill(cluster, instance, keys)
    large = {1, 5}
    while large:
        begun = lambda waiting=frozenset(large): {one for one in waiting if tries(cluster, made[one])}  # noqa: E731
        ready = wait_until(begun, "a large scene", 2400)
        for number in ready:
            send(signal.SIGSTOP, run_of(instance, one, keys[number]))
        large -= ready
    cluster.kill("worker")
    (left,) = [run for run in runs_of(instance, one) if processes_of(run.run_id)]  # the other was on that node
    send(signal.SIGKILL, left)
    cluster.start_worker("worker")
    runs = wait_until(finished(instance, one, 2), "the backfill", 2400)
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
        wait_until(lambda: tries(cluster, made[0]) == number, "the scene", 2400)  # noqa: B023
        send(signal.SIGKILL, run_of(instance, one, keys[0]))
    runs = wait_until(finished(instance, one, 1), "the backfill", 2400)
    assert len(runs) == 3
    assert all(told(instance, key).count("made") == 1 for key in keys[1:])
    assert told(instance, keys[0]) == []
    failures = [
        record.dagster_event.step_failure_data.error.to_string()  # type: ignore[union-attr]
        for record in instance.all_logs(runs[0].run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    ]
    assert "1 of 4 scenes failed" in failures[0]
    assert f"{made[0].stem}: 2 processes in a row died" in failures[0]
