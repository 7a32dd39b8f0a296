"""Trials of a hyper-parameter study: kept in Optuna's storage, trained in worker processes, repeated when interrupted.

A trial is in the storage from its start, so a study that is killed at any time goes on where it was (Akiba et al. 2019,
Optuna, arXiv:1907.10902). Only this module opens studies; it names no family of models.
"""

import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from cloud_assets.errors import InvalidRecipe, TrainingFailed
from cloud_assets.families import family_of
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.search_space import Choice, Dimension, FloatRange, SearchSpace, Value, with_parameters
from cloud_assets.learning.study_recipe import StudyRecipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle import study_storage
from cloud_assets.worker_processes import WorkerProcesses

if TYPE_CHECKING:
    import optuna

TrialState = Literal["complete", "pruned", "failed", "interrupted"]

_START_SECONDS = 60.0
_NEXT_SEED = "next_seed"
"""Attribute of a study: the seed of the next trial, less that of the recipe."""
_FAILURES_WITHOUT_SUCCESS = 5
_REASON = "reason"


@dataclass(frozen=True)
class Trial:
    """One finished training with one set of values."""

    number: int
    """Position in the study, from 0."""
    state: TrialState
    """``interrupted`` trials (killed, crashed) are run again under a new number and do not count."""
    value: float | None
    """Best value of the metric over its epochs; None if it had none."""
    parameters: Mapping[str, Value]
    """Dotted path -> value."""
    epochs: Mapping[int, float]
    """The metric by epoch."""
    seconds: float
    """Wall-clock time."""
    reason: str
    """Why it failed, was interrupted, or ended before its time."""
    retry_of: int | None
    """Number of the interrupted trial that this one repeats."""


def run_study(
    recipe: StudyRecipe,
    space: SearchSpace,
    base: Recipe,
    run: TrainingRun,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> "optuna.Study":
    """Runs a study, or goes on with it, until it has as many trials as asked for.

    Args:
        recipe: How to search, with at least one trial.
        space: What to vary.
        base: The recipe that trials start from.
        run: Data, and a workspace that outlives an interruption. Its ``on_epoch`` is not used.
        on_trial: Called with each finished trial, at the start also with those of earlier sessions.

    Returns:
        The study.

    Raises:
        InvalidRecipe: If the search space does not fit the recipe, no epoch has the metric, or the study's name is
            taken by a study of something else.
        AlreadyRunning: If another process runs a study in this workspace.
        SourceUnreachable: If the storage cannot be opened.
        TrainingFailed: If the first trials all fail, or worker processes cannot start.
    """
    space.check(base)
    identity = study_storage.study_identity(recipe, space, base, run)
    url = study_storage.storage_url(recipe, run.workspace)
    with study_storage.locked(run.workspace):
        study, storage = study_storage.opened_study(
            recipe.name or study_storage.study_name(identity), identity, url, recipe
        )
        if recipe.include_defaults and not study.get_trials(deepcopy=False) and (own := space.values_of(base)):
            study.enqueue_trial(own)
        # Listeners need not survive the way into another process. Simulated patches are made once for all trials.
        shared = replace(
            run, on_epoch=TrainingRun.on_epoch, on_picture=TrainingRun.on_picture, progress=False,
            cache=run.cache or run.workspace / "cache",
        )  # fmt: skip
        order = _Order(study.study_name, url, recipe, space, base, shared, 0, _killed_after(recipe))
        _Session(study, storage, order, on_trial, run.progress).work()
        shutil.rmtree(run.workspace / "trials", ignore_errors=True)
    return study


def _killed_after(recipe: StudyRecipe) -> float | None:
    return None if recipe.trial_minutes is None else 2 * 60 * recipe.trial_minutes + _START_SECONDS


def finished_trials(study: "optuna.Study") -> list[Trial]:
    """All finished trials of a study, by number."""
    trials = study.get_trials(deepcopy=False)
    interrupted = _interrupted(trials)
    best = max if study.direction.name == "MAXIMIZE" else min
    found = []
    for trial in trials:
        if not trial.state.is_finished():
            continue
        state: TrialState = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")  # type: ignore[assignment]
        if trial.number in interrupted:
            state = "interrupted"
        values = dict(sorted(trial.intermediate_values.items()))
        value = trial.value if state == "complete" else best(values.values(), default=None)
        found.append(
            Trial(
                number=trial.number,
                state=state,
                value=None if value is None or not math.isfinite(value) else float(value),
                parameters=dict(trial.params),
                epochs=values,
                seconds=math.nan if trial.duration is None else trial.duration.total_seconds(),
                reason=trial.user_attrs.get(_REASON, "its process ended" if trial.state.name == "FAIL" else ""),
                retry_of=next(reversed(_retried(trial)), None),
            )
        )
    return found


@dataclass(frozen=True)
class _Order:
    """What a worker process needs to run a trial."""

    name: str
    url: str
    recipe: StudyRecipe
    space: SearchSpace
    base: Recipe
    run: TrainingRun
    seed: int
    killed_after: float | None
    """Seconds after which a trial that does not end an epoch kills its process."""


class _Session:
    """One process's work on a study: hands out trials to workers until there are as many as asked for."""

    def __init__(
        self,
        study: "optuna.Study",
        storage: "optuna.storages.RDBStorage",
        order: _Order,
        on_trial: Callable[[Trial], None],
        progress: bool,
    ) -> None:
        self._study, self._storage, self._order, self._recipe = study, storage, order, order.recipe
        self._on_trial, self._progress = on_trial, progress
        self._known: dict[int, Trial] = {}
        minutes = order.recipe.study_minutes
        self._until = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def work(self) -> None:
        """Rounds of as many trials as are left; trials whose process died are left for the next round."""
        from tqdm import tqdm

        with (
            WorkerProcesses(self._recipe.workers) as workers,
            tqdm(total=self._recipe.trials, desc="trials", disable=not self._progress) as self._bar,
        ):
            while True:
                self._requeue()
                self._update()
                left, others = self._left()
                if time.monotonic() >= self._until or (left <= 0 and not others):
                    return
                if left > 0:
                    self._round(workers, left)
                else:
                    time.sleep(
                        study_storage.HEARTBEAT_SECONDS
                    )  # another machine, or one of ours that died, may leave a trial

    def _round(self, workers: WorkerProcesses, left: int) -> None:
        begun = self._begun()
        # No two trials of a study have the same seed: the same one would draw the same values again. The number of the
        # next is kept with the study, because trials that were killed or repeated may have used any seed so far.
        first = int(self._study.user_attrs.get(_NEXT_SEED, 0))
        self._study.set_user_attr(_NEXT_SEED, first + left)
        orders = [replace(self._order, seed=self._recipe.seed + first + index) for index in range(left)]
        futures: list[Future[None]] = [workers.submit(_run_trial, order) for order in orders]
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

        with study_storage.without_notices():
            optuna.storages.fail_stale_trials(self._study)
            retry = study_storage.retry_callback(self._recipe)
        with self._storage.engine.connect() as connection:
            heard = set(connection.execute(sqlalchemy.text("SELECT trial_id FROM trial_heartbeats")).scalars())
        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            age = (datetime.now() - (trial.datetime_start or datetime.min)).total_seconds()
            # The workspace is locked, so nobody else runs trials of its own file. Elsewhere heartbeats tell; Optuna
            # overlooks trials that were killed before their first one.
            is_silent = age > study_storage.grace_seconds() and trial._trial_id not in heard
            if self._recipe.storage is None or is_silent:
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                retry(self._study, trial)

    def _left(self) -> tuple[int, int]:
        """How many trials may still be begun, and how many are running elsewhere."""
        trials = self._study.get_trials(deepcopy=False)
        running = sum(trial.state.name == "RUNNING" for trial in trials)
        finished = sum(trial.state.is_finished() for trial in trials) - len(_interrupted(trials))
        return self._recipe.trials - finished - running, running

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

    study = optuna.load_study(
        study_name=order.name,
        storage=study_storage.kept_storage(order.url, order.recipe),
        sampler=_sampler(order.recipe, order.seed),
        pruner=_pruner(order.recipe),
    )
    try:
        study.optimize(partial(_objective, order), n_trials=1, catch=(_TrialFailed,))
    except _UnknownMetric:
        raise
    except ValueError as error:
        if not str(error).startswith("Cannot tell a"):  # another process took this trial for dead: it runs again
            raise


def _objective(order: _Order, trial: "optuna.Trial") -> float:
    import optuna

    metric, limit = order.recipe.metric, order.recipe.trial_minutes
    parameters = {path: _suggested(trial, path, dimension) for path, dimension in order.space.root.items()}
    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    root = next(iter(_retried(frozen)), trial.number)  # repetitions go on in the first one's workspace
    known = set(frozen.intermediate_values)
    workspace = order.run.workspace / "trials" / f"{root:04d}"
    started = time.monotonic()
    values: list[float] = []

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        if metric not in metrics:
            raise _UnknownMetric(
                f"the study's metric {metric!r} is none of those that an epoch has: {', '.join(metrics)}."
            )
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
        recipe = with_parameters(order.base, {**parameters, **_length(order.recipe)})
        bundle = family_of(recipe).train(recipe, replace(order.run, workspace=workspace, on_epoch=on_epoch))
        # Epochs before an interruption are among them.
        values = [float(row[metric]) for row in bundle.card.training.history if metric in row]
    except _TimeLimit:
        trial.set_user_attr(_REASON, "time limit")
    except optuna.TrialPruned:
        trial.set_user_attr(_REASON, "worse than the other trials at the same epoch")
        raise
    except _UnknownMetric:
        raise
    except Exception as error:  # whatever a training fails with is that trial's result, not the study's end
        trial.set_user_attr(_REASON, f"{type(error).__name__}: {error}")
        raise _TrialFailed from error
    finally:
        watchdog.cancel()
        shutil.rmtree(workspace, ignore_errors=True)  # checkpoints may be gigabytes a trial
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        trial.set_user_attr(_REASON, f"no epoch has a finite {metric}")
        raise _TrialFailed
    return max(finite) if order.recipe.mode == "max" else min(finite)


def _length(recipe: StudyRecipe) -> dict[str, Value]:
    if recipe.trial_epochs is None:
        return {}
    return {"optimisation.steps": None, "optimisation.max_epochs": recipe.trial_epochs}


def _suggested(trial: "optuna.Trial", path: str, dimension: Dimension) -> Value:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(path, dimension.options)
    if isinstance(dimension, FloatRange):
        return trial.suggest_float(path, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_int(path, dimension.low, dimension.high, log=dimension.log)


def _sampler(recipe: StudyRecipe, seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    if recipe.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=recipe.startup_trials, seed=seed)


def _pruner(recipe: StudyRecipe) -> "optuna.pruners.BasePruner":
    import optuna

    if recipe.pruner == "median":
        return optuna.pruners.MedianPruner(recipe.startup_trials, recipe.pruner_warmup_epochs)
    if recipe.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=recipe.pruner_warmup_epochs + 1)
    return optuna.pruners.NopPruner()


def _retried(trial: Any) -> Sequence[int]:
    """Numbers of the interrupted trials that one repeats, the first one first."""
    history: Sequence[int] = trial.system_attrs.get("retry_history", ())
    return history


def _interrupted(trials: Sequence[Any]) -> set[int]:
    """Numbers of the trials that others repeat."""
    return {number for trial in trials for number in _retried(trial)}
