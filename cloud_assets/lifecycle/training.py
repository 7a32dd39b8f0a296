"""Trains a variant once: reuses what is finished, resumes what was interrupted, and logs it to MLflow.

A training's workspace ``<folder>/<task>/<variant>/<fingerprint>`` holds the checkpoints while it runs, the finished
model afterwards, and the id of its MLflow run.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cloud_assets.errors import AlreadyRunning, TrackingUnavailable
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.lifecycle.drift import with_training_reference
from cloud_assets.lifecycle.promotion import SEEN_FILE, seen_groups
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.storage import locked

if TYPE_CHECKING:
    from cloud_assets.tracking import Tracker

MODEL_FOLDER = "model"  # in a workspace: the finished model
KEPT_TRAININGS = 3  # workspaces of a variant that are kept


@dataclass(frozen=True)
class TrainedVariant:
    """A variant's model and how it came about."""

    bundle: ModelBundle
    run_id: str | None  # its MLflow run; None while MLflow is away
    how: Literal["trained", "resumed", "reused"]
    """Whether it was trained now, from the start or from a checkpoint, or had been before."""


class RunLog:
    """Logs to one MLflow run until MLflow is away; ``warn`` is told so, and what is missed is logged another time."""

    def __init__(self, begin: Callable[[], str], warn: Callable[[str], None], work: str) -> None:
        self.run_id: str | None = None
        self._warn, self._work = warn, work
        with _tolerating(warn):
            self.run_id = begin()

    def __call__(self, log: Callable[..., None], *content: Any) -> None:
        """Calls ``log(run_id, *content)``."""
        if self.run_id is not None:
            try:
                log(self.run_id, *content)
            except TrackingUnavailable as error:
                self._warn(f"{error} The {self._work} goes on.")
                self.run_id = None


def workspace_of(folder: Path, task: str, variant: str, training_fingerprint: str) -> Path:
    """The workspace of a training."""
    return folder / task / variant / training_fingerprint


def train_variant(
    task: str,
    variant: str,
    recipe: Recipe,
    store: PatchStore,
    splits: Splits,
    folder: Path,
    tracker: "Tracker",
    *,
    tags: Mapping[str, str],
    warn: Callable[[str], None],
    teacher: ModelBundle | None = None,
    retrain: bool = False,
    progress: bool = True,
    keep: int = KEPT_TRAININGS,
) -> TrainedVariant:
    """Gets a variant's trained model, training only if the same recipe has not been trained on the same data.

    While MLflow is away the model is trained and kept, and logged by the next call; ``warn`` is told so.

    ``folder`` holds the workspaces, of which ``keep`` stay for a variant, this one and those used last; none that is in
    use goes. ``tags`` are noted with the MLflow run. ``teacher`` is the
    variant that the recipe learns from. ``retrain``: also if the same training is finished.

    Raises:
        AlreadyRunning: If another process does the same at the moment.
        CloudAssetsError: Whatever the recipe's training raises; the MLflow run is then marked as failed.
    """
    identity = fingerprint(recipe, store, splits, teacher)
    workspace = workspace_of(folder, task, variant, identity)
    finished = workspace / MODEL_FOLDER
    busy = (
        f"{task}/{variant} is being trained by another process ({workspace}). Wait until it is finished; running this "
        "again then reuses its model."
    )
    with locked(_lock_file(workspace), busy):
        if retrain:
            with _tolerating(warn):  # the earlier MLflow run stays, as killed if it never finished
                tracker.end_unfinished(workspace)
            shutil.rmtree(workspace, ignore_errors=True)
        run = TrainingRun(task, variant, store, splits, workspace, progress=progress, teacher=teacher)
        how: Literal["trained", "resumed", "reused"] = "reused"
        if not finished.is_dir():
            how = "resumed" if run.checkpoints.is_dir() else "trained"
            workspace.mkdir(parents=True, exist_ok=True)
            versions = {"patches_version": store.data_version, "splits_version": splits.data_version}
            noted = {"task": task, "variant": variant, "fingerprint": identity, **versions, **tags}
            settings = recipe.model_dump(mode="json")
            log = RunLog(lambda: tracker.begin(workspace, task, variant, settings, noted), warn, "training")
            told = replace(run, on_epoch=partial(log, tracker.log_epoch), on_picture=partial(log, tracker.log_picture))
            try:
                bundle = with_training_reference(family_of(recipe).train(recipe, told), run)
            except BaseException as error:
                if log.run_id is not None:
                    with _tolerating(warn):
                        tracker.end(log.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
                raise
            bundle.save(finished)
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        bundle = ModelBundle.open(finished)
        run_id = None
        with _tolerating(warn):
            run_id = tracker.publish(workspace, bundle)
            tracker.note(run_id, SEEN_FILE, {"groups": seen_groups(splits)})
        os.utime(workspace)
        _prune(workspace, keep)
        return TrainedVariant(bundle, run_id, how)


def _prune(present: Path, keep: int) -> None:
    """Removes the workspaces of a variant unused for longest, beside the present one and locked ones."""
    others = [path for path in present.parent.iterdir() if path.is_dir() and path != present]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for workspace in others[max(0, keep - 1) :]:
        with suppress(AlreadyRunning), locked(_lock_file(workspace), "in use"):
            shutil.rmtree(workspace, ignore_errors=True)


@contextmanager
def _tolerating(warn: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except TrackingUnavailable as error:
        warn(str(error))


def _lock_file(workspace: Path) -> Path:
    return workspace.with_suffix(".lock")
