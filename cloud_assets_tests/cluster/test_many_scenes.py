"""200 scenes on one worker, and on two of which a process and then a node are killed on the way.

``pytest -m cluster -s cloud_assets_tests/cluster/test_many_scenes.py`` prints what they took.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.scenes.product_record import RECORD_FILE
from cloud_assets_tests.cluster.backfills import backfill, finished, runs_of, scenes, send, told
from cloud_assets_tests.cluster.machines import Cluster, processes_of, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

SCENES = 200
A_RUN = 25
NODES = ("head", "worker")


@dataclass
class Measurement:
    """What a backfill took."""

    seconds: float = 0.0
    processor: dict[tuple[str, int], float] = field(default_factory=dict)
    """Seconds of a processor by node and process of a run."""

    def look(self, cluster: Cluster, runs: list[dg.DagsterRun]) -> None:
        """Notes what the processes of runs have used so far."""
        pids = {pid for run in runs for pid in processes_of(run.run_id)}
        for node in NODES:
            for pid in pids & cluster.processes(node):
                try:
                    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                except OSError:
                    continue  # it has just ended
                self.processor[node, pid] = sum(map(int, used)) / os.sysconf("SC_CLK_TCK")

    def on_node(self, node: str) -> float:
        """Seconds of a processor that a node has used."""
        return sum(used for (one, _), used in self.processor.items() if one == node)

    def __str__(self) -> str:
        nodes = ", ".join(f"{self.on_node(node):.0f} s" for node in NODES if self.on_node(node))
        return f"{SCENES} scenes in {self.seconds:.0f} s; processor time of the runs by node: {nodes}"


def measured(
    cluster: Cluster, instance: dg.DagsterInstance, first: int, disturb: Callable[[int, str], None]
) -> Measurement:
    """Makes scenes, while something may happen to the cluster, and looks what became of each."""
    made = scenes(cluster, range(first, first + SCENES))
    places = [Path(cluster.environment["CLOUD_ASSETS_WORK"]) / "scenes" / scene.stem / RECORD_FILE for scene in made]
    found, began = Measurement(), time.monotonic()
    one = backfill(cluster, instance, [scene.name for scene in made])
    is_over = finished(instance, one, SCENES // A_RUN)

    def over() -> bool:
        found.look(cluster, [run for run in runs_of(instance, one) if not run.is_finished])
        disturb(sum(place.is_file() for place in places), one)
        return bool(is_over())

    wait_until(over, "the backfill", 3000)
    found.seconds = time.monotonic() - began
    ways = {scene.name: Counter(told(instance, scene.name)) for scene in made}
    assert all(ways.values()), "each is done"
    assert all(way["made"] <= 1 for way in ways.values()), "none twice"
    stored = {item.key for item in cluster.bucket().objects.filter(Prefix="home/scenes/")}
    assert {f"home/scenes/{scene.stem}/{RECORD_FILE}" for scene in made} <= stored
    return found


def test_200_scenes_on_one_worker_and_on_two(cluster: Cluster, instance: dg.DagsterInstance) -> None:
    cluster.restart(workers=(), CLOUD_ASSETS_SCENES_A_RUN=str(A_RUN))
    alone = measured(cluster, instance, 1000, lambda done, one: None)
    cluster.start_worker("worker")
    killed: list[str] = []

    def kill(done: int, one: str) -> None:
        if done >= SCENES // 4 and not killed:
            busy = [run for run in runs_of(instance, one) if processes_of(run.run_id)]
            send(signal.SIGKILL, busy[0])
            killed.append("process")
        elif done >= SCENES // 2 and len(killed) == 1:
            cluster.kill("worker")
            cluster.start_worker("worker")
            killed.append("node")

    helped = measured(cluster, instance, 2000, kill)
    assert killed == ["process", "node"]
    sys.stdout.write(f"\none worker: {alone}\ntwo workers, a process and a node killed: {helped}\n")
    sys.stdout.write(f"{alone.seconds / helped.seconds:.2f} times as fast\n")
