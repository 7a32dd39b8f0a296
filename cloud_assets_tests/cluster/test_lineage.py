"""The demo on two nodes: the same results as on a laptop, in the object store, with nothing secret in a job's list."""

import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance import InstanceRef

from cloud_assets.orchestration.jobs import DEMO
from cloud_assets.orchestration.resources import POINTER_FILE
from cloud_assets.settings import RESOURCES_TAG
from cloud_assets_tests.cluster.machines import BIN, ROOT, Cluster, wait_for_run, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

TASK = "cloudsen12_segmentation"
VARIANT = "unet_efficientnet_b2"
ASSETS = ("raw_scenes", "labeled_patches", "splits", f"{VARIANT}_model", f"{VARIANT}_report", "comparison", "champion")
CONFIG: dict[str, Any] = {
    "ops": {
        f"{TASK}__raw_scenes": {"config": {"source": "sample", "sample_scale": 0.1, "max_samples": 6}},
        f"{TASK}__labeled_patches": {"config": {"size": 128}},
        f"{TASK}__{VARIANT}_model": {
            "config": {
                "crop": 64,
                "mirrored_border": 0,
                "simulated_fraction": 0.0,
                "simulated_validation": 0,
                "composited_fraction": 0.0,
                "start_share": 0.5,
                "optimisation": {"max_epochs": 1, "steps_per_epoch": 2, "threads": 1},
            }
        },
    }
}


def results(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Asset -> its latest data version; of the report, which tells when it was made, the metrics."""
    found: dict[str, Any] = {}
    for name in ASSETS:
        event = instance.get_latest_materialization_event(dg.AssetKey([TASK, name]))
        if event is not None and (made := event.asset_materialization) is not None:
            metrics = {one: made.metadata[one].value for one in ("iou", "f1") if name.endswith("_report")}
            found[name] = metrics or (made.tags or {})["dagster/data_version"]
    return found


@pytest.fixture(scope="module")
def laptop(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the same run in one process, with everything in a folder."""
    folder = tmp_path_factory.mktemp("laptop")
    shutil.copy(ROOT / "dagster.yaml", folder)
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    ours = ("CLOUD_ASSETS_", "MLFLOW_", "DAGSTER_HOME", "AWS_", "RAY_")
    environment = {name: value for name, value in cluster.environment.items() if not name.startswith(ours)}
    command = [BIN / "dagster", "job", "execute", "-m", "cloud_assets.definitions", "-j", DEMO, "-c", "config.yaml"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder / ".dagster"))) as instance:
        return results(instance)


def test_the_demo_is_what_a_laptop_makes(
    cluster: Cluster, instance: dg.DagsterInstance, laptop: dict[str, Any]
) -> None:
    run = wait_for_run(instance, cluster.launch(DEMO, CONFIG))
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert json.loads(run.tags[RESOURCES_TAG])["num_cpus"] == 1
    assert set(laptop) == set(ASSETS)
    assert results(instance) == laptop
    files = {item.key: item for item in cluster.bucket().objects.all()}
    assert {f"home/{TASK}/{name}/{POINTER_FILE}" for name in ASSETS} <= files.keys()
    assert any(key.startswith("mlflow/") and key.endswith("model.safetensors") for key in files), (
        "the champion's weights"
    )
    logs = [item.get()["Body"].read().decode() for key, item in files.items() if run.run_id in key]
    assert any("▸ " in log for log in logs), "what the steps printed"
    assert not any("Found credentials" in log for log in logs)
    assert not (cluster.folder / "data").exists(), "nothing lands in the folder that a process was started from"
    listed = cluster.command("ray", "job", "list")
    assert run.run_id in listed
    secrets = [cluster.environment[name] for name in ("DAGSTER_POSTGRES_URL", "AWS_SECRET_ACCESS_KEY")]
    assert not [secret for secret in (*secrets, cluster.token) if secret in listed]


def test_postgresql_restarted_under_a_running_job(
    cluster: Cluster, instance: dg.DagsterInstance, laptop: dict[str, Any]
) -> None:
    run = cluster.launch(DEMO, CONFIG)
    patches = f"{TASK}__labeled_patches"
    starts = dg.DagsterEventType.STEP_START
    begun = lambda: patches in {one.step_key for one in instance.all_logs(run, of_type=starts)}  # noqa: E731
    wait_until(begun, "the patches", 400)
    cluster.kill("postgres", signal.SIGINT)
    time.sleep(5)
    cluster.start_database()
    assert wait_for_run(instance, run).status is dg.DagsterRunStatus.SUCCESS
    assert results(instance) == laptop


def test_whoever_has_no_token_is_refused(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(cluster.environment["RAY_API_SERVER_ADDRESS"] + "/api/jobs/")
    assert refused.value.code == 401
