"""``CLOUD_ASSETS_EXECUTOR=ray``: each step of a run is a Ray job of its own; the results are the same."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.orchestration.jobs import DEMO
from cloud_assets_tests.cluster.demo import ASSETS, CONFIG, results
from cloud_assets_tests.cluster.machines import Cluster, wait_for_run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(5400)]


@pytest.fixture
def steps_as_jobs(cluster: Cluster) -> Iterator[None]:
    """Nodes and daemon are started anew with the variable, and afterwards without it."""
    cluster.restart(CLOUD_ASSETS_EXECUTOR="ray")
    yield
    cluster.restart(CLOUD_ASSETS_EXECUTOR="in_process")


@pytest.mark.usefixtures("steps_as_jobs")
def test_the_demo_step_by_step_on_two_nodes(
    laptop: dict[str, str], cluster: Cluster, instance: dg.DagsterInstance
) -> None:
    shutil.rmtree(Path(cluster.environment["CLOUD_ASSETS_WORK"]) / ".training", ignore_errors=True)
    run = wait_for_run(instance, cluster.launch(DEMO, CONFIG), 1800)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    begun = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
    assert len({one.step_key for one in begun}) == len(ASSETS)
    assert results(instance) == laptop
