"""The demo on two nodes: the same results as on a laptop, in the object store, with nothing secret in a job's list."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.inference.bundle import WEIGHTS_FILE
from cloud_assets.orchestration.jobs import DEMO
from cloud_assets.orchestration.resources import POINTER_FILE
from cloud_assets.settings import RESOURCES_TAG
from cloud_assets_tests.cluster.demo import ASSETS, CONFIG, TASK, VARIANT, results
from cloud_assets_tests.cluster.machines import Cluster, processes_of, wait_for_run, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(5400)]


def test_the_demo_is_what_a_laptop_makes(
    laptop: dict[str, str], cluster: Cluster, instance: dg.DagsterInstance
) -> None:
    run = wait_for_run(instance, cluster.launch(DEMO, CONFIG))
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert json.loads(run.tags[RESOURCES_TAG])["num_cpus"] == 1
    assert set(laptop) == set(ASSETS)
    assert results(instance) == laptop
    files = {item.key: item for item in cluster.bucket().objects.all()}
    assert {f"home/{TASK}/{name}/{POINTER_FILE}" for name in ASSETS} <= files.keys()
    tracked = [key for key in files if key.startswith("mlflow/")]
    assert any(key.endswith(WEIGHTS_FILE) for key in tracked), tracked
    logs = [item.get()["Body"].read().decode() for key, item in files.items() if run.run_id in key]
    assert any("▸ " in log for log in logs), "what the steps printed"
    assert not any("Found credentials" in log for log in logs)
    assert not (cluster.folder / "data").exists(), "nothing lands in the folder that a process was started from"
    listed = cluster.command("ray", "job", "list")
    assert run.run_id in listed
    secrets = [cluster.environment[name] for name in ("DAGSTER_POSTGRES_URL", "AWS_SECRET_ACCESS_KEY")]
    assert not [secret for secret in (*secrets, cluster.token) if secret in listed]


def test_a_process_killed_inside_a_training(
    laptop: dict[str, str], cluster: Cluster, instance: dg.DagsterInstance
) -> None:
    trainings = Path(cluster.environment["CLOUD_ASSETS_WORK"]) / ".training"
    shutil.rmtree(trainings, ignore_errors=True)  # what is trained already would be used again
    run = cluster.launch(DEMO, CONFIG)
    wait_until(lambda: list(trainings.rglob("last.ckpt")), "the first checkpoint", 2400, 0.02)
    for pid in processes_of(run):
        os.kill(pid, signal.SIGKILL)
    last = wait_for_run(instance, run)
    assert (last.status, last.run_id != run) == (dg.DagsterRunStatus.SUCCESS, True)
    event = instance.get_latest_materialization_event(dg.AssetKey([TASK, f"{VARIANT}_model"]))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["how"].value == "resumed"
    assert event.run_id == last.run_id
    assert results(instance) == laptop


def test_two_promotions_of_one_task_from_two_nodes(
    laptop: dict[str, str], cluster: Cluster, instance: dg.DagsterInstance
) -> None:
    import mlflow

    client = mlflow.MlflowClient(cluster.environment["MLFLOW_TRACKING_URI"])
    client.delete_registered_model(TASK)
    started = dg.DagsterEventType.STEP_START
    first = cluster.materialise(TASK, "champion")
    wait_until(lambda: instance.all_logs(first, of_type=started), "the first decision", 600, 0.05)
    deciding = processes_of(first)
    for pid in deciding:
        os.kill(pid, signal.SIGSTOP)  # in the midst of it
    second = cluster.materialise(TASK, "champion")
    time.sleep(60)  # a node is free, and starts a run in less
    waiting = instance.get_run_by_id(second)
    for pid in deciding:
        os.kill(pid, signal.SIGCONT)
    runs = [wait_for_run(instance, run) for run in (first, second)]
    assert waiting is not None
    assert waiting.status is dg.DagsterRunStatus.QUEUED, "it waits where it can be seen, and takes no node"
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    spans = sorted(span_of(instance, run.run_id, f"{TASK}__champion") for run in runs)
    assert spans[0][1] <= spans[1][0], "one decision after the other"
    versions = client.search_model_versions(f"name = '{TASK}'")
    assert [version.version for version in versions] == [client.get_model_version_by_alias(TASK, "champion").version]
    assert results(instance) == laptop


def span_of(instance: dg.DagsterInstance, run: str, step: str) -> tuple[float, float]:
    """When a step began and when it ended."""
    wanted = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS}
    begun, ended = (one.timestamp for one in instance.all_logs(run, of_type=wanted) if one.step_key == step)
    return begun, ended


def test_a_full_cache_disk(laptop: dict[str, str], cluster: Cluster, instance: dg.DagsterInstance) -> None:
    cache = Path(cluster.environment["CLOUD_ASSETS_WORK"]) / ".downloads"
    shutil.rmtree(cache)
    cache.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", cache]).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        failed = wait_for_run(instance, cluster.materialise(TASK, "splits"))
        assert failed.status is dg.DagsterRunStatus.FAILURE
        (failure,) = instance.all_logs(failed.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        assert "No space left on device" in str(failure.dagster_event)
        assert "free some space" in str(failure.dagster_event)
        assert results(instance) == laptop
        subprocess.run(["mount", "-o", "remount,size=200m", cache], check=True)
        again = wait_for_run(instance, cluster.materialise(TASK, "splits"))
        assert again.status is dg.DagsterRunStatus.SUCCESS
        assert results(instance) == laptop
    finally:
        subprocess.run(["umount", cache], check=True)


def test_postgresql_restarted_under_a_running_job(
    laptop: dict[str, str], cluster: Cluster, instance: dg.DagsterInstance
) -> None:
    run = cluster.launch(DEMO, CONFIG)
    patches = f"{TASK}__labeled_patches"
    starts = dg.DagsterEventType.STEP_START
    begun = lambda: patches in {one.step_key for one in instance.all_logs(run, of_type=starts)}  # noqa: E731
    wait_until(begun, "the patches", 2400)
    cluster.kill("postgres", signal.SIGINT)
    time.sleep(5)
    cluster.start_database()
    assert wait_for_run(instance, run).status is dg.DagsterRunStatus.SUCCESS
    assert results(instance) == laptop


def test_whoever_has_no_token_is_refused(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(cluster.environment["RAY_API_SERVER_ADDRESS"] + "/api/jobs/")
    assert refused.value.code == 401
