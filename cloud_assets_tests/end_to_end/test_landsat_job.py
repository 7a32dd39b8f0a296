"""The command line on a small data set in 38-Cloud's layout: from files to a served champion, and what a kill does."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from mlflow import MlflowClient

from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.end_to_end.workplace import DAGSTER, Workplace

TASK = "landsat_segmentation"
CONFIG = """
ops:
  landsat_segmentation__splits:
    config:
      fractions: [0.6, 0.2, 0.2]
  landsat_segmentation__unet_model:
    config: &tiny
      network: {{width: 4}}
      crop: null
      simulated_fraction: 0.0
      simulated_validation: 0
      composited_fraction: 0.0
      optimisation:
        seed: {seed}
        max_epochs: {epochs}
        steps_per_epoch: {steps}
        batch_size: 4
        learning_rate: 0.02
        budget_minutes: null
  landsat_segmentation__attention_unet_model:
    config: *tiny
"""
MATERIALIZE = [DAGSTER, "asset", "materialize", "-m", "cloud_assets.definitions", "--select"]
ASSETS = [
    "raw_scenes",
    "labeled_patches",
    "splits",
    "unet_model",
    "attention_unet_model",
    "unet_report",
    "attention_unet_report",
    "comparison",
    "champion",
]


@pytest.fixture(scope="module")
def place(workplace: Workplace, small_38_cloud: Path) -> Workplace:
    return Workplace(workplace.folder, {**workplace.environment, "CLOUD_ASSETS_DATA": str(workplace.folder / "raw")})


@pytest.fixture(scope="module")
def first_run(place: Workplace) -> str:
    return place.run(place.job(TASK, CONFIG.format(seed=0, epochs=3, steps=10)))


@pytest.fixture
def client(place: Workplace, first_run: str) -> MlflowClient:
    return MlflowClient(f"sqlite:///{place.folder}/mlflow/mlflow.db")


def runs(client: MlflowClient) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name(TASK).experiment_id]))


def data_versions(place: Workplace) -> dict[str, str]:
    return {name: place.data_version(TASK, *name.split("/")) for name in ASSETS}


def test_every_asset_has_its_folder(place: Workplace, first_run: str) -> None:
    folder = place.folder / "data" / TASK
    for name in ("raw_scenes/scenes.parquet", "labeled_patches/images.npy", "splits/splits.parquet"):
        assert (folder / name).is_file(), name
    for variant in ("unet", "attention_unet"):
        assert (folder / f"{variant}_model" / "weights.safetensors").is_file()
        metrics = json.loads((folder / f"{variant}_report" / "metrics.json").read_text())
        assert metrics["iou"] > 0.5
        assert all(isinstance(value, float | int) for value in metrics.values())
        assert "<html" in (folder / f"{variant}_report" / "report.html").read_text()[:200]
    assert (folder / "comparison" / "report.html").is_file()
    assert json.loads((folder / "champion" / "decision.json").read_text())["promoted"] is True
    assert list(place.folder.rglob("*.pkl")) == []


def test_the_console_says_what_happened(place: Workplace, first_run: str) -> None:
    assert f"✓ {TASK}/champion" in first_run
    assert "report.html" in first_run
    assert "dg dev" in first_run
    assert f"mlflow ui --backend-store-uri sqlite:///{place.folder}/mlflow/mlflow.db" in first_run
    assert "DEBUG" not in first_run


def test_the_ui_shows_numbers_and_figures(place: Workplace, first_run: str) -> None:
    metadata = place.materialisation(TASK, "unet_report").metadata
    assert metadata["iou"].value > 0.5
    inline = [value.value for name, value in metadata.items() if name.startswith("figure_")]
    assert inline
    assert all(text.startswith("![") and "base64" in text for text in inline)
    model = place.materialisation(TASK, "unet_model").metadata
    assert {"learning_curves", "mlflow_run", "seconds", "peak_memory_mb", "size_mb", "recipe"} <= set(model)
    splits = place.materialisation(TASK, "splits").metadata["splits"].records
    assert [record.data["split"] for record in splits] == ["train", "validation", "test"]


def test_one_finished_run_a_training(client: MlflowClient, place: Workplace) -> None:
    found = {run.info.run_name: run for run in runs(client)}
    assert sorted(found) == ["attention_unet", "unet"]
    for run in found.values():
        assert run.info.status == "FINISHED"
        assert run.data.params["optimisation.batch_size"] == "4"
        assert run.data.metrics["test_iou"] > 0.5
        assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 3
        assert "dagster_run_id" in run.data.tags
        assert any(file.path.endswith("report.html") for file in client.list_artifacts(run.info.run_id, "evaluation"))


def test_the_registered_champion_gives_the_mask_of_the_evaluation(place: Workplace, client: MlflowClient) -> None:
    folder = place.folder / "data" / TASK
    champion = client.get_model_version_by_alias(TASK, "champion")
    store, splits = PatchStore.open(folder / "labeled_patches"), Splits.open(folder / "splits")
    test = splits.indices("test")
    np.save(place.folder / "dn.npy", store.array()[test].transpose(0, 2, 3, 1))
    script = """
        import mlflow, numpy as np
        model = mlflow.pyfunc.load_model("models:/landsat_segmentation@champion")
        np.save("mask.npy", model.predict(np.load("dn.npy"))["mask"])
    """
    uri = f"sqlite:///{place.folder}/mlflow/mlflow.db"
    environment = {**place.environment, "MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(command, cwd=place.folder, env=environment, check=True)
    cloud = np.isin(np.load(place.folder / "mask.npy"), (1, 2))
    truth = store.masks[test] == 1
    iou = (cloud & truth).sum() / (cloud | truth).sum()
    report = folder / f"{champion.tags['variant']}_report" / "metrics.json"
    assert json.loads(report.read_text())["iou"] == pytest.approx(iou, abs=1e-6)


def test_running_again_changes_nothing(place: Workplace, first_run: str, client: MlflowClient) -> None:
    before = data_versions(place)
    printed = place.run(place.job(TASK, CONFIG.format(seed=0, epochs=3, steps=10)))
    assert printed.count("reused: 3 epochs") == 2
    assert data_versions(place) == before
    assert len(runs(client)) == 2
    assert len(client.search_model_versions(f"name = '{TASK}'")) == 1


def test_a_killed_training_goes_on_in_its_run(place: Workplace, client: MlflowClient) -> None:
    before = {run.info.run_id for run in runs(client)}
    config = yaml.safe_load(CONFIG.format(seed=1, epochs=4, steps=40))
    step = f"{TASK}__unet_model"
    (place.folder / "unet.yaml").write_text(yaml.safe_dump({"ops": {step: config["ops"][step]}}))
    command = [*MATERIALIZE, f'key:"{TASK}/unet_model"', "-c", "unet.yaml"]
    process = place.start(command)
    interrupted: set[str] = set()
    deadline = time.monotonic() + 200
    while not interrupted:
        assert process.poll() is None, place.printed()
        assert time.monotonic() < deadline, place.printed()
        time.sleep(0.2)
        begun = [run for run in runs(client) if run.info.run_id not in before]
        interrupted = {run.info.run_id for run in begun if "train_loss" in run.data.metrics}
    process.kill()
    process.wait()
    assert {run.info.status for run in runs(client) if run.info.run_id in interrupted} == {"RUNNING"}
    printed = place.run(command)
    assert "resumed: 4 epochs" in printed
    after = [run for run in runs(client) if run.info.run_id not in before]
    assert {run.info.status for run in after} == {"FINISHED"}
    assert interrupted == {run.info.run_id for run in after}
    for run in after:
        steps = {entry.step for entry in client.get_metric_history(run.info.run_id, "train_loss")}
        assert steps == set(range(4))


def test_changed_pixels_change_the_data_versions(place: Workplace, first_run: str, small_38_cloud: Path) -> None:
    before = data_versions(place)
    with rasterio.open(next((small_38_cloud / "train_red").iterdir()), "r+") as raster:
        pixels = raster.read(1)
        pixels[5, 7] += 1
        raster.write(pixels, 1)
    select = ",".join(f'key:"{TASK}/{name}"' for name in ASSETS[:2])
    place.run([*MATERIALIZE, select])
    after = data_versions(place)
    assert [name for name in ASSETS if after[name] != before[name]] == ["raw_scenes", "labeled_patches"]
