"""Runs a task's hyper-parameter study, and tells MLflow about it: one run a study, one below it a trial."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import InvalidRecipe, TrackingUnavailable
from cloud_assets.learning.search_space import StudyRecipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy, Trial
from cloud_assets.lifecycle.study_trials import run_study, study_identity, study_name
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.tracking import Tracker

STUDY = "hyperparameter_study"
"""Name of the asset and of the MLflow run."""
_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def searched_variant(task: Task, recipe: StudyRecipe) -> str:
    """The variant whose recipe a study starts from; refused if the task has no such variant."""
    variant = recipe.variant or next(iter(task.variants))
    if variant not in task.variants:
        raise InvalidRecipe(f"{task.name} has no variant {variant!r} to search; it has {', '.join(task.variants)}.")
    return variant


def search(
    task: Task,
    recipe: StudyRecipe,
    base: Any,
    store: PatchStore,
    splits: Splits,
    folder: Path,
    tracker: "Tracker",
    *,
    tags: Mapping[str, str],
    warn: Callable[[str], None],
    progress: bool = True,
) -> tuple[HyperparameterStudy, str | None]:
    """Runs a task's study to its end, or goes on with it, with the trials' workspaces below a folder.

    While MLflow is away trials are run and kept, and logged by the next call; ``warn`` is told so.

    Returns:
        The study; and its MLflow run, None while MLflow is away or if no trial was asked for.

    Raises:
        InvalidRecipe: If the task has no search space, or it does not fit the recipe.
        CloudAssetsError: Whatever :func:`cloud_assets.lifecycle.study_trials.run_study` raises.
    """
    if task.search_space is None:
        raise InvalidRecipe(f"{task.name} declares no search space.")
    space = task.search_space
    run = TrainingRun(
        task.name, searched_variant(task, recipe), store, splits, folder, progress=progress, cache=folder / ".simulated"
    )
    if recipe.trials == 0:
        return HyperparameterStudy.of(None, recipe, space, base, run), None
    name = recipe.name or study_name(study_identity(recipe, space, base, run))
    workspace = study_workspace(folder, task.name, name)
    workspace.mkdir(parents=True, exist_ok=True)
    versions = {"patches_version": store.data_version, "splits_version": splits.data_version}
    noted = {"task": task.name, "variant": run.variant, "study": name, **versions, **tags}
    settings = {"study": recipe.model_dump(mode="json", exclude={"storage"})}
    log = _TrialLog(tracker, warn, recipe.metric)
    try:
        log.run_id = tracker.begin(workspace, task.name, STUDY, settings, noted)
    except TrackingUnavailable as error:
        warn(str(error))
    run = replace(run, workspace=workspace)
    study = HyperparameterStudy.of(run_study(recipe, space, base, run, log.trial), recipe, space, base, run)
    log.close(study)
    return study, log.run_id


def study_workspace(folder: Path, task: str, name: str) -> Path:
    """Where a study keeps its trials."""
    return folder / task / STUDY / name


class _TrialLog:
    """Logs to MLflow for as long as it answers; what it misses is logged when the study is run again."""

    def __init__(self, tracker: "Tracker", warn: Callable[[str], None], metric: str) -> None:
        self.run_id: str | None = None
        self._tracker, self._warn, self._metric = tracker, warn, metric

    def trial(self, trial: Trial) -> None:
        tags = {"state": trial.state, "trial": str(trial.number), "reason": trial.reason[:500]}
        if trial.retry_of is not None:
            tags["retry_of"] = str(trial.retry_of)
        series = {self._metric: trial.epochs, f"best_{self._metric}": {} if trial.value is None else {0: trial.value}}
        self._tell(
            lambda run: self._tracker.log_nested(
                run, f"trial {trial.number}", trial.parameters, series, tags, _STATUS[trial.state]
            )
        )

    def close(self, study: HyperparameterStudy) -> None:
        metrics = {} if study.best_value is None else {f"best_{self._metric}": study.best_value}
        metrics |= {f"trials_{state}": float(count) for state, count in study.counts.items()}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "study"
            study.save(folder)
            self._tell(lambda run: self._tracker.log_folder(run, folder, "study", metrics))

    def _tell(self, log: Callable[[str], None]) -> None:
        if self.run_id is None:
            return
        try:
            log(self.run_id)
        except TrackingUnavailable as error:
            self._warn(f"{error} The study goes on.")
            self.run_id = None
