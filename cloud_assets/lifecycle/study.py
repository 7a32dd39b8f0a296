"""Runs a task's hyper-parameter study, and tells MLflow about it: one run a study, one below it a trial.

Trials are kept in Optuna's storage, trained in worker processes, repeated when interrupted. A trial is in the storage
from its start, so a study that is killed at any time goes on where it was (Akiba et al. 2019, Optuna,
arXiv:1907.10902). Only this module opens studies; it names no family of models.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cloud_assets.errors import InvalidRecipe, SourceUnreachable, TrainingFailed
from cloud_assets.families import family_of
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.search_space import SearchSpace, StudyRecipe, with_parameters
from cloud_assets.learning.training_run import TRAINING_VERSION, TrainingRun, beyond_the_recipe
from cloud_assets.lifecycle.hyperparameter_study import REASON, HyperparameterStudy, Trial, finished_trials, retried
from cloud_assets.lifecycle.training import RunLog
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.progress import progress_bar
from cloud_assets.storage import locked
from cloud_assets.tasks.task import Task
from cloud_assets.worker_processes import WorkerProcesses

if TYPE_CHECKING:
    import optuna

    from cloud_assets.tracking import Tracker

STUDY = "hyperparameter_study"  # name of the asset and of the MLflow run
_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
HEARTBEAT_SECONDS = 30
_GRACE_HEARTBEATS = 4  # a running trial of a shared storage that is silent for so many heartbeats is run again
_SQLITE_SECONDS = 120  # how long a process waits for the others' writes
_LOCK_SECONDS = 5.0
_START_SECONDS = 60.0
_IDENTITY = "cloud_assets_identity"
_FAILURES_WITHOUT_SUCCESS = 5


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
        CloudAssetsError: Whatever :func:`run_study` raises.
    """
    if task.search_space is None:
        raise InvalidRecipe(f"{task.name} declares no search space: give the task one (search_space).")
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
    log = RunLog(lambda: tracker.begin(workspace, task.name, STUDY, settings, noted), warn, "study")
    best = f"best_{recipe.metric}"

    def on_trial(trial: Trial) -> None:
        told = {"state": trial.state, "trial": str(trial.number), "reason": trial.reason[:500]}
        if trial.retry_of is not None:
            told["retry_of"] = str(trial.retry_of)
        series = {recipe.metric: trial.epochs, best: {} if trial.value is None else {0: trial.value}}
        log(tracker.log_nested, f"trial {trial.number}", trial.parameters, series, told, _STATUS[trial.state])

    run = replace(run, workspace=workspace)
    study = HyperparameterStudy.of(run_study(recipe, space, base, run, on_trial), recipe, space, base, run)
    if study.counted < recipe.trials:
        warn(study.notes[-1])
    metrics = {} if study.best_value is None else {best: study.best_value}
    metrics |= {f"trials_{state}": float(count) for state, count in study.counts.items()}
    with tempfile.TemporaryDirectory() as temporary:
        study.save(Path(temporary) / "study")
        log(tracker.log_folder, Path(temporary) / "study", "study", metrics)
    return study, log.run_id


def study_workspace(folder: Path, task: str, name: str) -> Path:
    """Where a study keeps its trials."""
    return folder / task / STUDY / name


def run_study(
    recipe: StudyRecipe,
    space: SearchSpace,
    base: Recipe,
    run: TrainingRun,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> "optuna.Study":
    """Runs a study, or goes on with it, until it has as many trials as asked for, of which there is at least one.

    Trials start from the recipe ``base``. The run's workspace outlives an interruption, its listeners are not used.
    ``on_trial`` is called with each finished trial, at the start also with those of earlier sessions.

    Raises:
        InvalidRecipe: If the search space does not fit the recipe, no epoch has the metric, or its name is taken.
        AlreadyRunning: If another process runs a study in this workspace.
        SourceUnreachable: If the storage cannot be opened.
        TrainingFailed: If the first trials all fail, or worker processes cannot start.
    """
    space.check(base)
    identity = study_identity(recipe, space, base, run)
    url = storage_url(recipe, run.workspace)
    busy = f"Another process is running a study in {run.workspace}. Wait for it, or end it; it keeps finished trials."
    with locked(run.workspace / "study.lock", busy, _LOCK_SECONDS):
        study, storage = _opened_study(recipe.name or study_name(identity), identity, url, recipe)
        if recipe.include_defaults and not study.get_trials(deepcopy=False) and (own := space.values_of(base)):
            study.enqueue_trial(own)
        # Listeners need not survive the way into another process. Simulated patches are made once for all trials.
        shared = replace(
            run, on_epoch=TrainingRun.on_epoch, on_picture=TrainingRun.on_picture, progress=False,
            cache=run.cache or run.workspace / "cache",
        )  # fmt: skip
        minutes = recipe.trial_minutes
        killed_after = None if minutes is None else 2 * 60 * minutes + _START_SECONDS
        order = _Order(study.study_name, url, recipe, space, base, shared, killed_after)
        _Session(study, storage, order, on_trial, run.progress).work()
        shutil.rmtree(run.workspace / "trials", ignore_errors=True)
    return study


def study_identity(recipe: StudyRecipe, space: SearchSpace, base: Recipe, run: TrainingRun) -> dict[str, str]:
    """What the trials of one study have in common, or could not be compared; searched fields do not count."""
    rest = base.model_dump(mode="json", exclude={"optimisation": {"devices"}})
    for path in space.root:
        *parents, name = path.split(".")
        reduce(lambda place, parent: place.get(parent, {}), parents, rest).pop(name, None)
    named = [str(TRAINING_VERSION), *beyond_the_recipe(base.model_dump())]
    fixed = json.dumps([type(base).__name__, recipe.trial_epochs, recipe.trial_minutes, rest, named], sort_keys=True)
    return {
        "task": run.task,
        "variant": run.variant,
        "metric": recipe.metric,
        "mode": recipe.mode,
        "patches_version": run.store.data_version,
        "splits_version": run.splits.data_version,
        "search_space": space.digest,
        "recipe": hashlib.blake2b(fixed.encode(), digest_size=16).hexdigest(),
    }


def study_name(identity: Mapping[str, str]) -> str:
    """A name of its own for each task, variant, data version, recipe and search space."""
    digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{identity['task']}-{identity['variant']}-{digest}"


def storage_url(recipe: StudyRecipe, workspace: Path) -> str:
    """Where the trials are kept; ``optuna-dashboard`` opens it."""
    # Signs that mean something in a URL are quoted.
    return recipe.storage or f"sqlite:///{quote(str(workspace.resolve() / 'study.db'), safe='/:')}"


def _storage(url: str, recipe: StudyRecipe) -> "optuna.storages.RDBStorage":
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # reasons of failures are kept with the trials
    is_sqlite = url.startswith("sqlite")
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):  # of heartbeats
        storage = optuna.storages.RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": _SQLITE_SECONDS}} if is_sqlite else None,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=_GRACE_HEARTBEATS * HEARTBEAT_SECONDS,
            # Queues an interrupted trial again, unless that was done as often as allowed.
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(recipe.retries, True),
        )
    if is_sqlite:
        # SQLite knows no SELECT FOR UPDATE: without these two workers may take the same queued trial, or lock each
        # other out (optuna/optuna#4034).
        sqlalchemy.event.listen(storage.engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        sqlalchemy.event.listen(storage.engine, "begin", lambda began: began.exec_driver_sql("BEGIN IMMEDIATE"))
        storage.engine.dispose()
    return storage


_kept_storage = cache(_storage)  # for worker processes, which run many trials


def _opened_study(
    name: str, identity: Mapping[str, str], url: str, recipe: StudyRecipe
) -> "tuple[optuna.Study, optuna.storages.RDBStorage]":
    """Opens or makes a study, and makes sure that it is about the same."""
    import optuna
    from sqlalchemy.exc import IntegrityError

    try:
        try:
            storage = _storage(url, recipe)
        except IntegrityError:  # two processes made the tables at once
            time.sleep(_LOCK_SECONDS)
            storage = _storage(url, recipe)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if recipe.mode == "max" else "minimize",
            load_if_exists=True,
        )
    except Exception as error:  # drivers and servers each raise types of their own
        shown = re.sub(r"//[^@/]*@", "//…@", url)
        raise SourceUnreachable(
            f"the study's storage {shown} cannot be opened ({type(error).__name__}: {str(error)[:300]}). "
            "Check the URL, its server and its driver, or leave storage unset for a file in the workspace."
        ) from error
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        study.set_user_attr(_IDENTITY, dict(identity))
    elif differences := [
        f"{key.replace('_', ' ')} {known.get(key)}, now {now}" for key, now in identity.items() if known.get(key) != now
    ]:
        raise InvalidRecipe(
            f"there is already a study {name!r} about something else ({'; '.join(differences)}): their trials cannot "
            "be compared. Choose another name, leave the name unset, or delete the old study."
        )
    return study, storage


@dataclass(frozen=True)
class _Order:
    """What a worker process needs to run a trial."""

    name: str
    url: str
    recipe: StudyRecipe
    space: SearchSpace
    base: Recipe
    run: TrainingRun
    killed_after: float | None  # seconds after which a trial that hangs kills its process


class _Session:
    """One process's work on a study: hands out trials to workers until there are as many as asked for."""

    def __init__(
        self, study: "optuna.Study", storage: Any, order: _Order, on_trial: Callable[[Trial], None], progress: bool
    ) -> None:
        self._study, self._storage, self._order, self._recipe = study, storage, order, order.recipe
        self._on_trial, self._progress = on_trial, progress
        self._known: dict[int, Trial] = {}
        minutes = order.recipe.study_minutes
        self._until = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def work(self) -> None:
        """Rounds of as many trials as are left; trials whose process died are left for the next round."""
        with (
            WorkerProcesses(self._recipe.workers) as workers,
            progress_bar("Trials", self._recipe.trials, "trials", self._progress) as self._bar,
        ):
            while True:
                self._requeue()
                self._update()
                running, left = _running_and_left(self._study, self._recipe.trials)
                if time.monotonic() >= self._until or (left <= 0 and not running):
                    return
                if left > 0:
                    self._round(workers, left)
                else:
                    time.sleep(HEARTBEAT_SECONDS)  # another machine, or one of ours that died, may leave a trial

    def _round(self, workers: WorkerProcesses, left: int) -> None:
        begun = self._begun()
        futures = [workers.submit(_run_trial, self._order) for _ in range(left)]
        died: TrainingFailed | None = None
        for future in as_completed(futures):
            if future.cancelled():
                continue
            try:
                future.result()
            except TrainingFailed as error:
                died = error
            self._update()
            if time.monotonic() >= self._until:
                for each in futures:
                    each.cancel()
        if died is not None and self._begun() == begun:
            raise died  # before its first trial

    def _update(self) -> None:
        """Passes on what is finished, and stops a study of which every trial fails."""
        trials = finished_trials(self._study)
        for trial in trials:
            if self._known.get(trial.number) != trial:
                self._known[trial.number] = trial
                self._on_trial(trial)
        counted = [trial for trial in trials if trial.state != "interrupted"]
        self._bar.update(len(counted) - self._bar.n)
        failed = [trial for trial in counted if trial.state == "failed"]
        if len(failed) == len(counted) >= _FAILURES_WITHOUT_SUCCESS:
            reasons = "\n".join(f"  trial {trial.number}: {trial.reason[:200]}" for trial in failed[-3:])
            raise TrainingFailed(
                f"all {len(failed)} trials so far have failed, the last for these reasons:\n{reasons}\n"
                "Mend the recipe or the data and give the study another name."
            )

    def _requeue(self) -> None:
        """Queues the trials again whose process died. No trial of ours is running now."""
        import optuna
        import sqlalchemy

        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            optuna.storages.fail_stale_trials(self._study)
        with self._storage.engine.connect() as connection:
            heard = set(connection.execute(sqlalchemy.text("SELECT trial_id FROM trial_heartbeats")).scalars())
        trials = self._study.get_trials()
        repeated = {number for trial in trials for number in retried(trial)}
        for trial in trials:
            age = (datetime.now() - (trial.datetime_start or datetime.min)).total_seconds()
            # The workspace is locked, so nobody else runs trials of its own file. Elsewhere heartbeats tell; Optuna
            # overlooks trials that were killed before their first one.
            is_silent = age > _GRACE_HEARTBEATS * HEARTBEAT_SECONDS and trial._trial_id not in heard
            # Failed without a reason: the process that gave it up was killed before it queued it again.
            again = trial.state.name == "FAIL" and REASON not in trial.user_attrs and trial.number not in repeated
            if trial.state.name == "RUNNING" and (self._recipe.storage is None or is_silent):
                with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another process was faster
                    self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                    again = True
            if again:
                self._storage.get_heartbeat_stale_trial_callback()(self._study, trial)

    def _begun(self) -> int:
        return sum(trial.state.name != "WAITING" for trial in self._study.get_trials(deepcopy=False))


class _UnknownMetric(InvalidRecipe):
    """No epoch has the study's metric."""


class _TrialFailed(Exception):
    """The training of a trial raised an error."""


class _TimeLimit(Exception):
    """A trial has taken as long as it may."""


def _run_trial(order: _Order) -> None:
    """Runs one trial, in a worker process: a queued one, else one that the sampler draws."""
    import optuna

    recipe = order.recipe
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if recipe.pruner == "median":
        pruner = optuna.pruners.MedianPruner(recipe.startup_trials, recipe.pruner_warmup_epochs)
    elif recipe.pruner == "hyperband":
        pruner = optuna.pruners.HyperbandPruner(min_resource=recipe.pruner_warmup_epochs + 1)
    study = optuna.load_study(study_name=order.name, storage=_kept_storage(order.url, recipe), pruner=pruner)
    if _running_and_left(study, recipe.trials)[1] <= 0:
        return  # other processes have begun the last ones
    try:
        with ExitStack() as told:  # is left after the trial's end is in the storage
            study.optimize(partial(_objective, order, told), n_trials=1, catch=(_TrialFailed,))
    except ValueError as error:
        if not str(error).startswith("Cannot tell a"):  # another process took this trial for dead: it runs again
            raise


def _running_and_left(study: "optuna.Study", wanted: int) -> tuple[int, int]:
    """How many trials are under way, wherever, and how many are still to begin."""
    running = sum(trial.state.name == "RUNNING" for trial in study.get_trials(deepcopy=False))
    return running, wanted - running - sum(trial.state != "interrupted" for trial in finished_trials(study))


def _objective(order: _Order, told: ExitStack, trial: "optuna.Trial") -> float:
    import optuna

    metric, limit = order.recipe.metric, order.recipe.trial_minutes
    *earlier, frozen = trial.study.get_trials(deepcopy=False)[: trial.number + 1]
    repeated = {number for one in [*earlier, frozen] for number in retried(one)}
    counting = [one for one in earlier if one.number not in repeated and one.user_attrs.get(REASON, "") is not None]
    # Sessions may begin the last trial at once, queue the recipe's own values both, or repeat the same trial.
    queued_for = {str((one.system_attrs.get("fixed_params"), retried(one))) for one in earlier} - {str((None, ()))}
    own = str((frozen.system_attrs.get("fixed_params"), retried(frozen)))
    if len(counting) >= order.recipe.trials or own in queued_for:
        trial.set_user_attr(REASON, None)  # as if it had not been
        raise _TrialFailed
    # A number is given once, whatever is killed or repeated, so no two trials of a study draw from the same seed.
    seed = order.recipe.seed + trial.number
    trial.study.sampler = optuna.samplers.TPESampler(n_startup_trials=order.recipe.startup_trials, seed=seed)
    if order.recipe.sampler == "random":
        trial.study.sampler = optuna.samplers.RandomSampler(seed=seed)
    parameters = order.space.drawn(trial)
    known = set(frozen.intermediate_values)
    # Repetitions go on in the first one's workspace. Its checkpoints may be gigabytes.
    workspace = order.run.workspace / "trials" / f"{next(iter(retried(frozen)), trial.number):04d}"
    told.callback(shutil.rmtree, workspace, ignore_errors=True)
    started = time.monotonic()
    values: list[float] = []

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        if metric not in metrics:
            raise _UnknownMetric(f"the study's metric {metric!r} is none that an epoch has: {', '.join(metrics)}.")
        values.append(float(metrics[metric]))
        if epoch not in known:
            trial.report(values[-1], epoch)
        # After the last epoch there is nothing left to save.
        if epoch < recipe.optimisation.max_epochs - 1 and trial.should_prune():
            raise optuna.TrialPruned
        if limit is not None and time.monotonic() - started >= 60 * limit:
            raise _TimeLimit

    watchdog = threading.Timer(order.killed_after or 0, os._exit, (1,))
    watchdog.daemon = True
    if order.killed_after is not None:
        watchdog.start()
    try:
        if order.recipe.trial_epochs is not None:
            parameters |= {"optimisation.steps": None, "optimisation.max_epochs": order.recipe.trial_epochs}
        recipe = with_parameters(order.base, parameters)
        bundle = family_of(recipe).train(recipe, replace(order.run, workspace=workspace, on_epoch=on_epoch))
        # Epochs before an interruption are among them.
        values = [float(row[metric]) for row in bundle.card.training.history if metric in row]
    except _TimeLimit:
        trial.set_user_attr(REASON, "time limit")
    except optuna.TrialPruned:
        trial.set_user_attr(REASON, "worse than the other trials at the same epoch")
        raise
    except _UnknownMetric:
        raise
    except Exception as error:  # whatever a training fails with is that trial's result, not the study's end
        trial.set_user_attr(REASON, f"{type(error).__name__}: {error}")
        raise _TrialFailed from error
    finally:
        watchdog.cancel()
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        trial.set_user_attr(REASON, f"no epoch has a finite {metric}")
        raise _TrialFailed
    return max(finite) if order.recipe.mode == "max" else min(finite)
