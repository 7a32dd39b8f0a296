"""The command line on a small data set in CloudSEN12's layout: search, four classifiers, champion, export."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from cloud_assets.inference.onnx_export import ExportedModel
from cloud_assets.lifecycle.export import exported_predictor
from cloud_assets.reports.comparison import Comparison
from cloud_assets_tests.datasets.conftest import FakeSample, save_taco
from cloud_assets_tests.end_to_end.workplace import Workplace

TASK = "coverage_classification"
VARIANTS = ("resnet50", "mobilenet", "vgg16", "inception_v3")
COMMAND = str(Path(sys.executable).with_name("cloud-assets"))
CONFIG = """
ops:
  coverage_classification__hyperparameter_study:
    config:
      trials: 2
      trial_epochs: 1
      include_defaults: false
      recipe: &recipe
        network: {backbone: test_resnet, input_size: 32}
        simulated_fraction: 0.0
        training_windows: 120
        validation_windows: 60
        optimisation: &short {max_epochs: 5, batch_size: 8, learning_rate: 0.003, weight_decay: 0.0, threads: 1}
  coverage_classification__resnet50_model: {config: {<<: *recipe, use_study: false}}
  coverage_classification__mobilenet_model: {config: {<<: *recipe, optimisation: {<<: *short, max_epochs: 1}}}
  coverage_classification__vgg16_model: {config: {<<: *recipe, optimisation: {<<: *short, max_epochs: 1}}}
  coverage_classification__inception_v3_model:
    config: {<<: *recipe, optimisation: {<<: *short, max_epochs: 1}}
"""


@pytest.fixture(scope="module")
def place(workplace: Workplace) -> Workplace:
    """Ground as bright as cloud in every second patch: only the near infrared tells them apart there.

    Every split has patches from cloudless to overcast, so that no single answer is right in most of it.
    """
    samples = []
    for number in range(48):
        split = ("train", "validation", "train", "test", "train", "train")[number // 8]
        rng = np.random.default_rng(number)
        image = rng.integers(400, 900, (13, 48, 48)).astype(np.uint16)
        if number % 2:
            image[1:4] += 5000
        image[7] += 4000
        target = np.zeros((48, 48), np.uint8)
        width = round(48 * (number % 8) / 7)
        image[1:4, :, :width] = rng.integers(5400, 5900, (3, 48, width))
        image[7, :, :width] -= 3500
        target[:, :width] = 1 + number % 2
        stated = {
            "thick_percentage": 0.0,
            "thin_percentage": 0.0,
            "clear_percentage": 0.0,
            "cloud_shadow_percentage": 0.0,
        }
        stated["thin_percentage" if number % 2 else "thick_percentage"] = 100 * width / 48
        samples.append(FakeSample(f"patch_{number:02d}", split, real_size=48, image=image, target=target, extra=stated))
    save_taco(workplace.folder / "raw" / "cloudsen12" / "cloudsen12-l1c.test.taco", samples)
    return Workplace(workplace.folder, {**workplace.environment, "CLOUD_ASSETS_DATA": str(workplace.folder / "raw")})


@pytest.fixture(scope="module")
def printed(place: Workplace) -> str:
    return place.run(place.job(TASK, CONFIG))


@pytest.fixture
def results(place: Workplace, printed: str) -> Path:
    return place.folder / "data" / TASK


def metrics_of(results: Path, variant: str) -> dict[str, float]:
    content: dict[str, float] = json.loads((results / f"{variant}_report" / "metrics.json").read_text())
    return content


def test_champion_beats_what_needs_no_classifier(results: Path) -> None:
    decision = json.loads((results / "champion" / "decision.json").read_text())
    metrics = metrics_of(results, decision["variant"])
    assert decision["promoted"] is True
    assert metrics["accuracy"] > metrics["baseline_accuracy"]
    for variant in VARIANTS:
        assert {"quadratic_weighted_kappa", "mean_absolute_class_error", "auroc"} <= metrics_of(results, variant).keys()
    ranking = Comparison.open(results / "comparison").table
    assert ranking["name"].str.contains("share of bright pixels").any()
    assert "No segmentation champion" in (results / "resnet50_report" / "report.html").read_text()


def test_study_feeds_the_trainings(results: Path, place: Workplace) -> None:
    best = json.loads((results / "hyperparameter_study" / "best_recipe.json").read_text())
    assert best["parameters"].keys() >= {"optimisation.learning_rate", "network.dropout", "augmentation.brightness"}
    tuned = json.loads((results / "mobilenet_model" / "model_card.json").read_text())["training"]["recipe"]
    own = json.loads((results / "resnet50_model" / "model_card.json").read_text())["training"]["recipe"]
    assert tuned["optimisation"]["learning_rate"] == best["parameters"]["optimisation.learning_rate"]
    assert own["optimisation"]["learning_rate"] == 0.003
    shown = place.materialisation(TASK, "hyperparameter_study").metadata
    assert shown["trials_complete"].value + shown["trials_pruned"].value == 2
    assert "optuna-dashboard" in shown["dashboard"].value
    assert "figure_timeline" in shown


def test_trials_are_runs_below_the_studys(place: Workplace, results: Path) -> None:
    client = MlflowClient(f"sqlite:///{place.folder}/mlflow/mlflow.db")
    runs: list[Any] = list(client.search_runs([client.get_experiment_by_name(TASK).experiment_id]))
    names = [run.info.run_name for run in runs]
    assert sorted(names) == sorted([*VARIANTS, "hyperparameter_study", "trial 0", "trial 1"])
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs if run.info.run_name.startswith("trial")}
    assert parents == {run.info.run_id for run in runs if run.info.run_name == "hyperparameter_study"}


def test_exported_champion_answers_like_the_served_one(place: Workplace, results: Path) -> None:
    exported = ExportedModel.open(results / "exported_model")
    record = exported.record
    assert record.inputs_compared == 32
    assert record.max_difference < 1e-3
    assert record.metrics["onnx_accuracy"] == pytest.approx(record.metrics["accuracy"], abs=0.02)
    loss = record.metrics["accuracy"] - record.metrics["int8_accuracy"]
    assert record.metrics["int8_accuracy_loss"] == pytest.approx(loss)
    mlflow.set_tracking_uri(f"sqlite:///{place.folder}/mlflow/mlflow.db")
    served = mlflow.pyfunc.load_model(f"models:/{TASK}@champion")
    images = np.load(results / "labeled_patches" / "images.npy")[:8]
    expected = served.predict(np.moveaxis(images, 1, -1))
    found = exported_predictor(exported).predict(images)
    assert found["class_probability"] == pytest.approx(expected["class_probability"], abs=0.02)


def test_patches_become_class_folders(place: Workplace, results: Path) -> None:
    place.run([COMMAND, "export-patches", "folders", "--format", "png"])
    with (place.folder / "folders" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    assert {row["split"] for row in rows} == {"train", "test"}
    assert all((place.folder / "folders" / row["file"]).is_file() for row in rows)
