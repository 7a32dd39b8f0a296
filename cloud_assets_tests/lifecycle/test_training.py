"""A training happens once, goes on after an interruption, and survives an outage of MLflow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from cloud_assets.errors import AlreadyRunning
from cloud_assets.learning.training_run import fingerprint
from cloud_assets.lifecycle.promotion import SEEN_FILE, seen_groups
from cloud_assets.lifecycle.training import KEPT_TRAININGS, TrainedVariant, train_variant, workspace_of
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tracking import Tracker

Train = Callable[..., TrainedVariant]


@pytest.fixture
def train(store: PatchStore, splits: Splits, tracker: Tracker, tmp_path: Path, warnings: list[str]) -> Train:
    def run(recipe: Any, tracker: Tracker = tracker, **options: Any) -> TrainedVariant:
        place = tmp_path / "training"
        tags = {"dagster_run_id": "run"}
        return train_variant(
            "clouds", "unet", recipe, store, splits, place, tracker, tags=tags, warn=warnings.append, **options
        )

    return run


def runs(tracker: Tracker) -> list[Any]:
    client = MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name("clouds")
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def test_a_finished_training_is_reused(train: Train, recipe: Any, tracker: Tracker, warnings: list[str]) -> None:
    first, second = train(recipe()), train(recipe())
    assert (first.how, second.how) == ("trained", "reused")
    assert first.bundle.version == second.bundle.version
    assert recipe.trained == [0]
    (run,) = runs(tracker)
    assert run.info.run_id == first.run_id == second.run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster_run_id"] == "run"
    assert run.data.params == {"seed": "0", "dies": ""}
    assert warnings == []


def test_another_recipe_is_another_training(train: Train, recipe: Any, tracker: Tracker) -> None:
    train(recipe())
    assert train(recipe(seed=1)).how == "trained"
    assert train(recipe()).how == "reused"
    assert len(runs(tracker)) == 2


@pytest.mark.parametrize(("dies", "status"), [("error", "FAILED"), ("interrupt", "KILLED")])
def test_an_interrupted_training_ends_with_one_finished_run(
    train: Train, recipe: Any, tracker: Tracker, dies: str, status: str
) -> None:
    with pytest.raises((ValueError, KeyboardInterrupt)):
        train(recipe(dies=dies))
    (run,) = runs(tracker)
    assert run.info.status == status
    done = train(recipe(dies=dies))
    assert done.how == "resumed"
    assert recipe.trained == [0, 1]
    (run,) = runs(tracker)
    assert (run.info.run_id, run.info.status) == (done.run_id, "FINISHED")
    steps = [entry.step for entry in MlflowClient(tracker.uri).get_metric_history(run.info.run_id, "loss")]
    assert steps == [0, 1]


def test_checkpoints_go_when_the_model_is_there(
    train: Train, recipe: Any, tmp_path: Path, store: PatchStore, splits: Splits
) -> None:
    train(recipe())
    workspace = workspace_of(tmp_path / "training", "clouds", "unet", fingerprint(recipe(), store, splits))
    assert sorted(path.name for path in workspace.iterdir()) == ["mlflow_run.json", "model"]


def test_without_mlflow_the_model_is_kept_and_logged_later(
    train: Train, recipe: Any, tracker: Tracker, tmp_path: Path, warnings: list[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    away = Tracker(f"sqlite:///{tmp_path}/file/mlflow.db")
    first = train(recipe(), tracker=away)
    assert first.run_id is None
    assert any("MLFLOW_TRACKING_URI" in warning for warning in warnings)
    second = train(recipe())
    assert second.how == "reused"
    assert recipe.trained == [0]
    (run,) = runs(tracker)
    assert (run.info.run_id, run.info.status) == (second.run_id, "FINISHED")
    assert len(MlflowClient(tracker.uri).get_metric_history(run.info.run_id, "loss")) == 2


def test_training_again_opens_another_run(train: Train, recipe: Any, tracker: Tracker) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(recipe(dies="interrupt"))
    MlflowClient(tracker.uri).update_run(runs(tracker)[0].info.run_id, status="RUNNING")  # as kill -9 leaves it
    with pytest.raises(KeyboardInterrupt):
        train(recipe(dies="interrupt"), retrain=True)
    assert [run.info.status for run in runs(tracker)] == ["KILLED", "KILLED"]
    assert recipe.trained == [0, 0]
    assert train(recipe(dies="interrupt")).how == "resumed"
    assert [run.info.status for run in runs(tracker)] == ["KILLED", "FINISHED"]


def test_only_the_workspaces_used_last_are_kept(train: Train, recipe: Any, tmp_path: Path) -> None:
    folder = tmp_path / "training" / "clouds" / "unet"

    def kept() -> int:
        return sum(path.is_dir() for path in folder.iterdir())

    for seed in range(4):
        train(recipe(seed=seed))
    assert kept() == KEPT_TRAININGS == 3
    # The first was removed and is trained again; the third and fourth were used last.
    assert train(recipe(seed=0)).how == "trained"
    assert train(recipe(seed=3)).how == "reused"
    assert train(recipe(seed=1)).how == "trained"
    busy = min((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    with FileLock(busy.with_suffix(".lock")):
        train(recipe(seed=5), keep=1)
    assert kept() == 2
    assert busy.is_dir()
    train(recipe(seed=5), keep=1)
    assert kept() == 1


def test_a_kill_between_making_a_run_and_noting_it_leaves_one_run(
    train: Train, recipe: Any, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowClient.create_run

    def killed(client: MlflowClient, *arguments: Any, **options: Any) -> Any:
        real(client, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe())
    (orphan,) = runs(tracker)
    assert orphan.info.status == "RUNNING"
    assert orphan.data.params == {}
    done = train(recipe())
    (run,) = runs(tracker)
    assert (run.info.run_id, run.info.status) == (done.run_id, "FINISHED")
    assert run.info.run_id == orphan.info.run_id
    assert run.data.params == {"seed": "0", "dies": ""}


def test_a_training_notes_what_it_has_seen(train: Train, recipe: Any, tracker: Tracker, splits: Splits) -> None:
    done = train(recipe())
    assert done.run_id is not None
    assert tracker.noted(done.run_id, SEEN_FILE) == {"groups": seen_groups(splits)}
    assert len(seen_groups(splits)) == 4
    assert tracker.noted(done.run_id, "absent.json") is None


def test_two_at_once_are_refused(train: Train, recipe: Any, store: PatchStore, splits: Splits, tmp_path: Path) -> None:
    class Nested(recipe):  # type: ignore[misc]
        def make(self, run: Any) -> Any:
            with pytest.raises(AlreadyRunning, match="clouds/unet"):
                train(self)
            return super().make(run)

    assert train(Nested()).how == "trained"
