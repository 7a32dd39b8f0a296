"""The demonstration in small: what it is told, what it makes, and what it makes on a laptop."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance import InstanceRef

from cloud_assets.orchestration.jobs import DEMO
from cloud_assets_tests.cluster.machines import BIN, ROOT, plain_environment

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
                "optimisation": {"max_epochs": 3, "steps_per_epoch": 1, "threads": 1},
            }
        },
    }
}


def results(instance: dg.DagsterInstance) -> dict[str, str]:
    """Asset -> its latest data version."""
    found: dict[str, str] = {}
    for name in ASSETS:
        event = instance.get_latest_materialization_event(dg.AssetKey([TASK, name]))
        if event is not None and (made := event.asset_materialization) is not None:
            found[name] = (made.tags or {})["dagster/data_version"]
    return found


def results_of_a_laptop(folder: Path) -> dict[str, str]:
    """The results of the same run in one process, with everything in a folder."""
    shutil.copy(ROOT / "dagster.yaml", folder)
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    command = [BIN / "dagster", "job", "execute", "-m", "cloud_assets.definitions", "-j", DEMO, "-c", "config.yaml"]
    subprocess.run(command, cwd=folder, env=plain_environment(), check=True, capture_output=True)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder / ".dagster"))) as instance:
        return results(instance)
