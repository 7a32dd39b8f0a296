"""Hyper-parameter studies with Optuna, for any recipe that can be trained.

Nothing here knows what is trained: a study takes a recipe, a search space of dotted paths into it, and data.
Trials run in worker processes; every result is written to the study's storage the moment it is known, so a study that
is killed at any time goes on where it was (Akiba et al. 2019, Optuna, arXiv:1907.10902).
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from cloud_assets.errors import InvalidRecipe, TrainingFailed
from cloud_assets.learning.search_space import SearchSpace, with_parameters
from cloud_assets.learning.study_recipe import StudyOutcome, StudyRecipe, Trial
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle.study_ledger import StudyLedger
from cloud_assets.lifecycle.study_storage import opened_study, study_identity, study_name
from cloud_assets.lifecycle.trial_workers import EpochEnd, TrialEnd, TrialOrder, TrialWorkers, WorkerDied

if TYPE_CHECKING:
    import optuna

_FAILURES_WITHOUT_SUCCESS = 5
_KILL_AFTER = 2.0
"""A trial that does not even end an epoch is killed after this many times its time limit."""
_START_SECONDS = 60.0
TIME_LIMIT = "time limit"


def _tell_nobody(trial: Trial) -> None:
    """Ignores a finished trial."""


def run_study(
    recipe: StudyRecipe,
    space: SearchSpace,
    base: BaseModel,
    run: TrainingRun,
    on_trial: Callable[[Trial], None] = _tell_nobody,
) -> StudyOutcome:
    """Runs a study, or goes on with it, until it has as many trials as asked for.

    Args:
        recipe: How to search. With ``trials`` 0 nothing is run and the outcome says so.
        space: What to vary.
        base: The recipe that trials start from; any pydantic model with ``train(run)`` and an ``optimisation``.
        run: Data, and a workspace that outlives an interruption. Its ``on_epoch`` is not used.
        on_trial: Called with each finished trial, at the start also with those of earlier sessions: the same trial may
            come twice, no trial is left out.

    Returns:
        All finished trials.

    Raises:
        InvalidRecipe: If the search space does not fit the recipe, or no epoch has the metric; if the study's name is
            taken by a study of something else.
        AlreadyRunning: If another process runs it.
        SourceUnreachable: If the storage cannot be opened.
        TrainingFailed: If the first trials all fail.
    """
    outcome = StudyOutcome(
        task=run.task,
        variant=run.variant,
        name=recipe.name or "",
        recipe=recipe,
        space=space,
        trials=(),
        patches_version=run.store.data_version,
        splits_version=run.splits.data_version,
        is_synthetic=run.store.is_synthetic,
    )
    if recipe.trials == 0:
        note = "No trial was run (trials: 0): the recipe's own values are used."
        return StudyOutcome(**{**vars(outcome), "notes": (note,)})
    space.check(base)
    versions = (outcome.patches_version, outcome.splits_version)
    identity = study_identity(recipe, space, base, run.task, run.variant, *versions)
    name = recipe.name or study_name(identity)
    started = time.monotonic()
    with opened_study(name, identity, recipe.mode, recipe.storage, run.workspace) as study:
        ledger = StudyLedger(study, recipe, space, str(run.workspace.resolve()))
        ledger.recover()
        ledger.queue_defaults(space.values_of(base))
        for trial in ledger.records():
            on_trial(trial)
        _Session(recipe, base, run, ledger, on_trial).work()
        trials = tuple(ledger.records())
    seconds = time.monotonic() - started
    return StudyOutcome(**{**vars(outcome), "name": name, "trials": trials, "seconds": seconds})


@dataclass
class _Running:
    trial: "optuna.Trial"
    workspace: Path
    last_epoch: int
    """After this epoch there is nothing left to save by pruning."""
    best: float = math.nan
    verdict: str = ""
    """Why the trial was told to stop: ``pruned`` or the time limit."""


class _Session:
    """One sitting of a study: begins trials, listens to the workers, writes results down."""

    def __init__(
        self,
        recipe: StudyRecipe,
        base: BaseModel,
        run: TrainingRun,
        ledger: StudyLedger,
        on_trial: Callable[[Trial], None],
    ) -> None:
        self.recipe = recipe
        self.base = base
        self.run = run
        self.ledger = ledger
        self.on_trial = on_trial
        self._better = max if recipe.mode == "max" else min
        self._running: dict[int, _Running] = {}
        self._until = math.inf if recipe.study_minutes is None else time.monotonic() + 60 * recipe.study_minutes

    def work(self) -> None:
        """Runs trials until none is left to begin and none is running."""
        from tqdm import tqdm

        self._check_failures()
        done = self.recipe.trials - self.ledger.left
        workers = min(self.recipe.workers, max(self.ledger.left, 1))
        with (
            TrialWorkers(self.run, workers) as self._workers,
            tqdm(total=self.recipe.trials, initial=done, desc="trials", disable=not self.run.progress) as self._bar,
        ):
            self._begin()
            while self._running:
                for event in self._workers.events(self._patience()):
                    self._handle(event)
                self._kill_hanging()
                self._begin()
        shutil.rmtree(self.run.workspace / "trials", ignore_errors=True)

    def _begin(self) -> None:
        while self._workers.free and self.ledger.left and time.monotonic() < self._until:
            trial = self.ledger.begin()
            workspace = self.run.workspace / "trials" / f"{self.ledger.root(trial.number):04d}"
            recipe = self._recipe(trial.params)
            self._running[trial.number] = _Running(trial, workspace, recipe.optimisation.max_epochs - 1)
            self._workers.begin(TrialOrder(trial.number, recipe, workspace))

    def _recipe(self, parameters: Mapping[str, Any]) -> Any:
        if self.recipe.trial_epochs is not None:
            parameters = {
                **parameters,
                "optimisation.steps": None,
                "optimisation.max_epochs": self.recipe.trial_epochs,
            }
        return with_parameters(self.base, parameters)

    def _handle(self, event: EpochEnd | TrialEnd | WorkerDied) -> None:
        if isinstance(event, EpochEnd):
            self._epoch(event)
        elif isinstance(event, TrialEnd):
            self._end(event)
        else:
            signal = f"exit code {event.exit_code}"
            self.ledger.interrupt(event.number, f"its worker process died ({signal}); out of memory, perhaps")
            self._close(event.number, keep_workspace=True)

    def _epoch(self, event: EpochEnd) -> None:
        running = self._running[event.number]
        value = self._metric(event.metrics)
        running.best = value if math.isnan(running.best) else self._better(running.best, value)
        running.trial.report(value, event.epoch)
        limit = self.recipe.trial_minutes
        if event.epoch < running.last_epoch and running.trial.should_prune():
            running.verdict = "pruned"
        elif limit is not None and self._workers.running[event.number] >= 60 * limit:
            running.verdict = TIME_LIMIT
        self._workers.answer(event.number, not running.verdict)

    def _end(self, event: TrialEnd) -> None:
        running = self._running[event.number]
        if event.error:
            self.ledger.fail(event.number, event.error)
        elif running.verdict == "pruned":
            self.ledger.prune(event.number)
        elif running.verdict:
            self.ledger.complete(event.number, running.best, running.verdict)
        else:
            values = [row[self.recipe.metric] for row in event.history if self.recipe.metric in row]
            if values:
                self.ledger.complete(event.number, self._better(values))
            else:
                self.ledger.fail(event.number, f"its history has no {self.recipe.metric}")
        self._close(event.number)
        if event.error:
            self._check_failures()

    def _kill_hanging(self) -> None:
        if self.recipe.trial_minutes is None:
            return
        for number, seconds in self._workers.running.items():
            if seconds >= self._kill_after(self.recipe.trial_minutes):
                self._workers.kill(number)
                best = self._running[number].best
                if math.isnan(best):
                    self.ledger.fail(number, f"{TIME_LIMIT}: killed before the end of its first epoch")
                else:
                    self.ledger.complete(number, best, f"{TIME_LIMIT}: killed in the middle of an epoch")
                self._close(number)

    def _close(self, number: int, keep_workspace: bool = False) -> None:
        running = self._running.pop(number)
        if not keep_workspace:
            # Checkpoints of a large network and its optimiser are gigabytes a trial.
            shutil.rmtree(running.workspace, ignore_errors=True)
        trial = self.ledger.record(number)
        if trial.state != "interrupted":
            self._bar.update()
        best = min if self.recipe.mode == "min" else max
        values = [each.value for each in self.ledger.records() if each.state == "complete" and each.value is not None]
        self._bar.set_postfix({f"best {self.recipe.metric}": f"{best(values):.4f}"} if values else {})
        self.on_trial(trial)

    def _patience(self) -> float | None:
        """How long to wait for the workers before the next trial may have to be killed, seconds."""
        if self.recipe.trial_minutes is None:
            return None
        longest = max(self._workers.running.values(), default=0.0)
        return max(self._kill_after(self.recipe.trial_minutes) - longest, 0.0)

    def _kill_after(self, minutes: float) -> float:
        return _KILL_AFTER * 60 * minutes + _START_SECONDS

    def _metric(self, metrics: Mapping[str, float]) -> float:
        value = metrics.get(self.recipe.metric)
        if value is None:
            raise InvalidRecipe(
                f"the study's metric {self.recipe.metric!r} is none of those that an epoch has: {', '.join(metrics)}."
            )
        return value

    def _check_failures(self) -> None:
        counted = [trial for trial in self.ledger.records() if trial.state != "interrupted"]
        failed = [trial for trial in counted if trial.state == "failed"]
        if len(failed) == len(counted) >= _FAILURES_WITHOUT_SUCCESS:
            reasons = "\n".join(f"  trial {trial.number}: {trial.reason[:200]}" for trial in failed[-3:])
            raise TrainingFailed(
                f"all {len(failed)} trials so far have failed, the last for these reasons:\n{reasons}\n"
                "Mend the recipe or the data and give the study another name."
            )
