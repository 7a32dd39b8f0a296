"""The book of a study: which trials are finished, which were interrupted and have to be run again, which are left.

The order of its entries makes it safe to be killed between any two of them: a finished trial is never lost, an
interrupted one is repeated once, and nothing is counted twice.
"""

import math
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cloud_assets.learning.search_space import Choice, Dimension, FloatRange, SearchSpace, Value
from cloud_assets.learning.study_recipe import StudyRecipe, Trial, TrialState

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

_INTERRUPTED = "cloud_assets_interrupted"
_REASONS = "cloud_assets_reasons"


class StudyLedger:
    """Begins, ends and recovers the trials of one Optuna study.

    Args:
        study: The study, opened for this process alone.
        recipe: How to search.
        space: What to vary.
        workspace: Name of the place that trials are run from; in a shared storage it tells ours from others'.
    """

    def __init__(self, study: "optuna.Study", recipe: StudyRecipe, space: SearchSpace, workspace: str) -> None:
        self.study = study
        self.recipe = recipe
        self._distributions = {path: distribution(dimension) for path, dimension in space.root.items()}
        self._owner = f"{socket.gethostname()}:{workspace}"
        # Another seed each session: the same one would draw the same values again.
        study.sampler = _sampler(recipe, recipe.seed + len(study.get_trials(deepcopy=False)))
        study.pruner = _pruner(recipe)

    def recover(self) -> None:
        """Marks the trials that a killed session left running as interrupted and queues them again."""
        import optuna

        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.RUNNING and self._is_ours(trial):
                self.interrupt(trial.number, "the process that ran it was killed")
        retried = {trial.user_attrs.get("retry_of") for trial in self.study.get_trials(deepcopy=False)}
        for number in self._interrupted():
            if number not in retried:
                self._queue_again(number)

    def queue_defaults(self, values: Mapping[str, Value]) -> None:
        """Makes the recipe's own values the first trial of a new study."""
        if self.recipe.include_defaults and values and not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(dict(values))

    @property
    def left(self) -> int:
        """How many trials may still be begun: those asked for, without the finished and the running ones."""
        import optuna

        states = optuna.trial.TrialState
        interrupted = set(self._interrupted())
        taken = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state != states.WAITING and trial.number not in interrupted
        ]
        return max(self.recipe.trials - len(taken), 0)

    def begin(self) -> "optuna.Trial":
        """The next trial: a queued one, else one that the sampler draws."""
        trial = self.study.ask(fixed_distributions=self._distributions)
        trial.set_user_attr("owner", self._owner)
        return trial

    def root(self, number: int) -> int:
        """Number of the trial that a repetition goes back to; its workspace is shared, so its training is resumed."""
        retry_of = self.study.get_trials(deepcopy=False)[number].user_attrs.get("retry_of")
        return number if retry_of is None else self.root(int(retry_of))

    def complete(self, number: int, value: float, reason: str = "") -> None:
        """Ends a trial with its value."""
        self._explain(number, reason)
        self.study.tell(number, value)

    def prune(self, number: int) -> None:
        """Ends a hopeless trial."""
        import optuna

        self._explain(number, "hopeless beside the others")
        self.study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """Ends a trial whose training raised an error."""
        import optuna

        self._explain(number, reason)
        self.study.tell(number, state=optuna.trial.TrialState.FAIL)

    def interrupt(self, number: int, reason: str) -> None:
        """Ends a trial whose process died, and queues it again unless that happened too often."""
        if self._times_interrupted(number) >= self.recipe.retries:
            self.fail(number, f"{reason}, {self.recipe.retries + 1} times")
            return
        self.study.set_user_attr(_INTERRUPTED, sorted({*self._interrupted(), number}))
        self.fail(number, reason)
        self._queue_again(number)

    def records(self) -> list[Trial]:
        """The finished trials, by number."""
        return [self._record(trial) for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def record(self, number: int) -> Trial:
        """One finished trial."""
        return self._record(self.study.get_trials(deepcopy=False)[number])

    def _record(self, trial: "optuna.trial.FrozenTrial") -> Trial:
        values = dict(sorted(trial.intermediate_values.items()))
        best = max if self.recipe.mode == "max" else min
        value = trial.value if trial.state.name == "COMPLETE" else best(values.values(), default=None)
        return Trial(
            number=trial.number,
            state=self._state(trial),
            value=None if value is None or not math.isfinite(value) else float(value),
            parameters=dict(trial.params),
            epochs=values,
            started=trial.datetime_start,
            finished=trial.datetime_complete,
            reason=self._attribute(_REASONS, {}).get(str(trial.number), ""),
            retry_of=trial.user_attrs.get("retry_of"),
        )

    def _state(self, trial: "optuna.trial.FrozenTrial") -> TrialState:
        if trial.state.name == "FAIL":
            return "interrupted" if trial.number in self._interrupted() else "failed"
        return "complete" if trial.state.name == "COMPLETE" else "pruned"

    def _is_ours(self, trial: "optuna.trial.FrozenTrial") -> bool:
        # The journal lies in the locked workspace, so whatever runs in it is dead. Elsewhere others may be at work.
        return self.recipe.storage is None or trial.user_attrs.get("owner") == self._owner

    def _queue_again(self, number: int) -> None:
        parameters = self.study.get_trials(deepcopy=False)[number].params
        self.study.enqueue_trial(dict(parameters), user_attrs={"retry_of": number})

    def _times_interrupted(self, number: int) -> int:
        retry_of = self.study.get_trials(deepcopy=False)[number].user_attrs.get("retry_of")
        return 0 if retry_of is None else 1 + self._times_interrupted(int(retry_of))

    def _interrupted(self) -> list[int]:
        return list(self._attribute(_INTERRUPTED, []))

    def _explain(self, number: int, reason: str) -> None:
        if reason:
            self.study.set_user_attr(_REASONS, {**self._attribute(_REASONS, {}), str(number): reason})

    def _attribute(self, name: str, default: Any) -> Any:
        return self.study.user_attrs.get(name, default)


def distribution(dimension: Dimension) -> "BaseDistribution":
    """Optuna's form of a dimension of the search space."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if isinstance(dimension, FloatRange):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return IntDistribution(dimension.low, dimension.high, log=dimension.log)


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
