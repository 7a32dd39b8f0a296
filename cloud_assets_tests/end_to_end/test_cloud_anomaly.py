"""The whole lineage of the anomaly task on a tiny sample, with the quick configuration cut down further."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.datasets.samples.sample_writer import write_sample

JOB = "cloud_anomaly"


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_sample(tmp_path / "data", datasets=("cloud-anomaly",), scale=0.2, progress=False, workers=1)
    monkeypatch.setenv("CLOUD_ASSETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLOUD_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.slow
def test_from_pictures_to_a_served_champion(home: Path) -> None:
    import dagster as dg
    import mlflow

    from cloud_assets.definitions import defs
    from cloud_assets.orchestration.jobs import run_config

    quick = run_config(JOB, "quick")
    short = {"max_epochs": 1, "steps_per_epoch": 2, "batch_size": 2}
    changes: dict[str, Any] = {
        f"{JOB}__{variant}_model": {"config": {"optimisation": short}}
        for variant in ("conv_autoencoder", "vgg19_autoencoder")
    }
    changes[f"{JOB}__labeled_patches"] = {"config": {"size": 64}}
    changes[f"{JOB}__synthetic_clouds_model"] = {
        "config": {
            "crop": 64,
            "simulated_normals": 30,
            "network": {"width": 8, "depth": 3},
            "optimisation": {"max_epochs": 3, "steps_per_epoch": 20, "batch_size": 8},
        }
    }
    config = {"ops": merged(quick["ops"], changes)}
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def(JOB)
        result = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
    checks = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    assert checks["every_class"]  # no cloudy picture is in training or validation
    reports = {
        variant: json.loads((home / JOB / f"{variant}_report" / "metrics.json").read_text())
        for variant in ("conv_autoencoder", "vgg19_autoencoder", "synthetic_clouds")
    }
    for metrics in reports.values():
        assert {"auroc", "f1", "precision", "recall", "baseline_auroc", "false_alarm_rate"} <= metrics.keys()
    best = max(metrics["auroc"] for metrics in reports.values())
    rival = reports["conv_autoencoder"]["baseline_auroc"]
    # So short a training may fail to beat brightness; then there must be no champion.
    assert result.success == (best > rival)
    if result.success:
        mlflow.set_tracking_uri(f"sqlite:///{home.parent}/mlflow.db")
        served = mlflow.pyfunc.load_model(f"models:/{JOB}@champion")
        answer = served.predict(np.full((2, 50, 70, 3), 90, np.uint8))
        assert answer["score"].shape == answer["is_anomaly"].shape == (2,)
        assert answer["error_map"].shape == (2, 50, 70)
