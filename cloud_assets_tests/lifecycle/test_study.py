"""A task's study in MLflow: one run below the study's for each trial, whatever happened in between."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from mlflow import MlflowClient
from pydantic import BaseModel

from cloud_assets.datasets.cloudsen12 import CloudSEN12
from cloud_assets.errors import InvalidRecipe, TrackingUnavailable
from cloud_assets.families.segmentation.recipe import SegmentationEvaluation
from cloud_assets.learning.search_space import Choice, FloatRange, SearchSpace, StudyRecipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle import study as studying
from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy
from cloud_assets.lifecycle.study import search, searched_variant
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Gate
from cloud_assets.tasks.task import Task
from cloud_assets.tracking import Tracker

ROOT = Path(__file__).resolve().parents[2]
SPACE = SearchSpace({"optimisation.rate": FloatRange(low=0.1, high=0.9), "fault": Choice(options=("none", "raise"))})
RECIPE = StudyRecipe(trials=5, pruner="none", sampler="random", seed=3, metric="val_loss", mode="min")


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.syspath_prepend(str(ROOT))
    from cloud_assets_tests.lifecycle.studied_recipe import Bowl

    return Task(
        name="clouds",
        title="Clouds",
        description="A test.",
        dataset=CloudSEN12(),
        patches=PatchRecipe(bands=("red",)),
        split=GroupedSplit(),
        variants={"round": Bowl(), "square": Bowl(shape="square")},  # type: ignore[dict-item]
        evaluation=SegmentationEvaluation(),
        gate=Gate(metric="iou", mode="max"),
        search_space=SPACE,
    )


def run(task: Task, store: PatchStore, splits: Splits, folder: Path, tracker: Tracker, **changes: Any) -> Any:
    recipe = changes.pop("recipe", RECIPE)
    base = task.variants[searched_variant(task, recipe)]
    warned: list[str] = []
    study, run_id = search(
        task, recipe, base, store, splits, folder, tracker, tags={"by": "test"}, warn=warned.append, progress=False
    )
    return study, run_id, warned


def trials(tracker: Tracker, parent: str) -> dict[str, Any]:
    client = MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name("clouds").experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    names = [one.info.run_name for one in found]
    assert len(names) == len(set(names)), "a trial was logged twice"
    return dict(zip(names, found, strict=True))


def test_each_trial_is_a_run_below_the_studys(
    task: Task, store: PatchStore, splits: Splits, tmp_path: Path, tracker: Tracker
) -> None:
    study, run_id, warned = run(task, store, splits, tmp_path / "work", tracker)
    logged = trials(tracker, run_id)
    assert warned == []
    assert sorted(logged) == [f"trial {number}" for number in range(5)]
    for trial in study.tables["trials"].to_dict("records"):
        one = logged[f"trial {trial['trial']}"]
        assert one.info.status == ("FAILED" if trial["state"] == "failed" else "FINISHED")
        assert float(one.data.params["optimisation.rate"]) == trial["rate"]
        if trial["state"] == "complete":
            assert one.data.metrics["best_val_loss"] == pytest.approx(trial["val_loss"])
            history = MlflowClient(tracker.uri).get_metric_history(one.info.run_id, "val_loss")
            assert [entry.step for entry in history] == list(range(trial["epochs"]))
    parent = MlflowClient(tracker.uri).get_run(run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_val_loss"] == pytest.approx(study.best_value)
    assert parent.data.params["study.trials"] == "5"
    artifacts = {file.path for file in MlflowClient(tracker.uri).list_artifacts(run_id, "study")}
    assert {"study/report.html", "study/best_recipe.json", "study/figures"} <= artifacts


def test_going_on_logs_the_new_trials_to_the_same_run(
    task: Task, store: PatchStore, splits: Splits, tmp_path: Path, tracker: Tracker
) -> None:
    _, first, _ = run(task, store, splits, tmp_path / "work", tracker)
    more = RECIPE.model_copy(update={"trials": 7})
    _, second, _ = run(task, store, splits, tmp_path / "work", tracker, recipe=more)
    assert first == second
    assert len(trials(tracker, first)) == 7


def test_what_mlflow_missed_is_logged_the_next_time(
    task: Task, store: PatchStore, splits: Splits, tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = Tracker.log_nested

    def away_after_two(self: Tracker, *arguments: Any) -> None:
        calls.append(arguments[1])
        if len(calls) > 2:
            raise TrackingUnavailable("MLflow is away.")
        real(self, *arguments)

    monkeypatch.setattr(Tracker, "log_nested", away_after_two)
    study, run_id, warned = run(task, store, splits, tmp_path / "work", tracker)
    assert run_id is None
    assert study.counted == 5
    assert warned == ["MLflow is away. The study goes on."]
    monkeypatch.setattr(Tracker, "log_nested", real)
    again, run_id, warned = run(task, store, splits, tmp_path / "work", tracker)
    assert again.tables["trials"].equals(study.tables["trials"])
    assert warned == []
    assert len(trials(tracker, run_id)) == 5


def test_end_of_study_minutes_is_told(
    task: Task, store: PatchStore, splits: Splits, tmp_path: Path, tracker: Tracker
) -> None:
    short = RECIPE.model_copy(update={"study_minutes": 1e-6})
    study, _, warned = run(task, store, splits, tmp_path / "work", tracker, recipe=short)
    assert study.counted < 5
    assert warned == [study.notes[-1]]
    assert "study_minutes (1e-06)" in warned[0]
    _, _, warned = run(task, store, splits, tmp_path / "work", tracker)
    assert warned == []


def test_no_trials_no_run(task: Task, store: PatchStore, splits: Splits, tmp_path: Path, tracker: Tracker) -> None:
    study, run_id, _ = run(task, store, splits, tmp_path / "work", tracker, recipe=StudyRecipe(trials=0))
    assert run_id is None
    assert "No trial was run" in study.notes[0]
    assert study.best_recipe(task.variants["round"]) == task.variants["round"]
    assert not (tmp_path / "work").exists()


def test_variant_is_the_first_or_the_one_named(task: Task) -> None:
    assert searched_variant(task, StudyRecipe()) == "round"
    assert searched_variant(task, StudyRecipe(variant="square")) == "square"
    with pytest.raises(InvalidRecipe, match="round, square"):
        searched_variant(task, StudyRecipe(variant="oval"))


def test_study_serves_any_recipe_that_trains(
    store: PatchStore, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study's own code names no family of models: a segmentation recipe goes through as it is."""
    from cloud_assets.families.segmentation.recipe import Segmentation
    from cloud_assets.learning.recipe import Optimisation
    from cloud_assets.lifecycle.hyperparameter_study import finished_trials
    from cloud_assets.lifecycle.study import run_study
    from cloud_assets.networks.specifications import UNet
    from cloud_assets.patches.augmentation import Augmentation

    base = Segmentation(
        network=UNet(width=2, depth=1),
        crop=None,
        augmentation=Augmentation.none(),
        optimisation=Optimisation(max_epochs=2, steps_per_epoch=2, batch_size=2, precision="32", threads=1),
    )
    space = SearchSpace(
        {
            "optimisation.learning_rate": FloatRange(low=1e-3, high=1e-1, log=True),
            "network.width": Choice(options=(2, 4)),
        }
    )
    recipe = StudyRecipe(trials=2)
    run = TrainingRun("any", "unet", store, splits, tmp_path / "work", progress=False)
    trials = finished_trials(run_study(recipe, space, base, run))
    assert [trial.state for trial in trials] == ["complete"] * 2
    assert [len(trial.epochs) for trial in trials] == [2, 2]


def test_task_without_a_search_space_has_no_study(
    task: Task, store: PatchStore, splits: Splits, tmp_path: Path, tracker: Tracker
) -> None:
    from dataclasses import replace

    from cloud_assets.orchestration.task_definitions import lineage

    plain = replace(task, search_space=None)
    keys = {key for asset in lineage(plain) for key in (*asset.keys, *asset.dependency_keys)}
    assert not any(studying.STUDY in key.path for key in keys)
    kinds = [asset.op.config_schema.config_type for asset in lineage(plain)]
    assert not any("use_study" in getattr(kind, "fields", {}) for kind in kinds)
    with pytest.raises(InvalidRecipe, match="declares no search space"):
        run(plain, store, splits, tmp_path / "work", tracker)


class _Plain(BaseModel):
    family: ClassVar[str] = "plain"
    width: int = 1


def test_trained_models_use_the_best_values_only_where_meant() -> None:
    from cloud_assets.orchestration.variant_assets import tuned

    def study(**settings: Any) -> dict[str, HyperparameterStudy]:
        found = HyperparameterStudy(
            task="t", variant="one", name="s", recipe=StudyRecipe(trials=1, **settings),
            space=SearchSpace({"width": Choice(options=(1, 9))}), base={}, tuned={}, counts={"complete": 1},
            best_trial=0, best_value=1.0, best_parameters={"width": 9}, importances={}, patches_version="p",
            splits_version="s", is_synthetic=False,
        )  # fmt: skip
        return {studying.STUDY: found}

    assert tuned(_Plain(), "one", study(), True).width == 9
    assert tuned(_Plain(), "two", study(), True).width == 9
    assert tuned(_Plain(), "two", study(only_its_variant=True), True).width == 1
    assert tuned(_Plain(), "one", study(), False).width == 1
    assert tuned(_Plain(), "one", {}, True).width == 1
