"""A hyper-parameter study as plain declarations and records: how to search, and what the trials found; Optuna-free."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.learning.search_space import Recipe, SearchSpace, Value, with_parameters

TrialState = Literal["complete", "pruned", "failed", "interrupted"]


class StudyRecipe(BaseModel):
    """How a study searches. It knows nothing of what the trials train."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(
        default=0,
        ge=0,
        description="Trials in all, with those of earlier sessions. 0: no search, the recipe's own values are used.",
    )
    workers: int = Field(default=1, ge=1, description="Processes that train trials side by side, one thread each.")
    variant: str | None = Field(default=None, description="Variant whose recipe is searched. Unset: the first.")
    metric: str = Field(
        default="val_loss", description="Metric of an epoch that is optimised; a trial is worth its best epoch."
    )
    mode: Literal["max", "min"] = Field(default="min", description="Whether more or less of the metric is better.")
    name: str | None = Field(
        default=None, description="Name in the storage. Unset: made of task, variant, data and search space."
    )
    storage: str | None = Field(
        default=None,
        description="Optuna storage URL, such as postgresql://user@host/db. Unset: a journal file in the workspace.",
    )
    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="tpe: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization (NeurIPS)."
    )
    only_its_variant: bool = Field(
        default=False, description="Use the best values for the searched variant alone, not for all variants."
    )
    startup_trials: int = Field(default=6, ge=1, description="Random trials before the sampler and the pruner act.")
    pruner: Literal["median", "hyperband", "none"] = Field(
        default="median",
        description="What ends hopeless trials early: the median of the others at the same epoch, or Hyperband "
        "(Li et al. 2018, arXiv:1603.06560), best with many trials.",
    )
    pruner_warmup_epochs: int = Field(default=1, ge=0, description="Epochs in which no trial is pruned.")
    include_defaults: bool = Field(
        default=True, description="Let the first trial have the recipe's own values, so the search is never worse."
    )
    trial_epochs: int | None = Field(
        default=None, ge=1, description="Most epochs of a trial. Unset: as many as the recipe."
    )
    trial_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Time limit of a trial: it ends with the epoch, worth its best so far; one that hangs is killed.",
    )
    study_minutes: float | None = Field(
        default=None, gt=0, description="After this long no further trial is begun; run again to go on."
    )
    retries: int = Field(
        default=2, ge=0, description="How often an interrupted trial is run again with the same values."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the sampler.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name is not None and not self.name.strip():
            raise InvalidRecipe("a study's name must not be blank; leave it unset for one made of task and variant.")
        return self


@dataclass(frozen=True)
class Trial:
    """One training with one set of values."""

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
    started: datetime | None
    finished: datetime | None
    reason: str = ""
    """Why it failed, was interrupted, or ended before its time."""
    retry_of: int | None = None
    """Number of the interrupted trial that this one repeats."""

    @property
    def seconds(self) -> float:
        """Wall-clock time; NaN if unknown."""
        if self.started is None or self.finished is None:
            return math.nan
        return (self.finished - self.started).total_seconds()


@dataclass(frozen=True)
class StudyOutcome:
    """What a study found, and on what."""

    task: str
    """Name of the task."""
    variant: str
    """The variant whose recipe the trials started from."""
    name: str
    """Name in Optuna's storage."""
    recipe: StudyRecipe
    """How was searched."""
    space: SearchSpace
    """What was varied."""
    trials: Sequence[Trial]
    """By number; empty when no search was asked for."""
    patches_version: str
    """Data version of the patches."""
    splits_version: str
    """Data version of the splits."""
    is_synthetic: bool
    """Whether the patches are simulated."""
    seconds: float = 0.0
    """Wall-clock time of this session's trials."""
    notes: Sequence[str] = field(default_factory=tuple)
    """What a reader of the numbers has to know."""

    @property
    def counted(self) -> list[Trial]:
        """The trials that count: all but the interrupted ones, whose repetitions count."""
        return [trial for trial in self.trials if trial.state != "interrupted"]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best value; None if there is none."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        sign = -1 if self.recipe.mode == "max" else 1
        return min(complete, key=lambda trial: (sign * float(trial.value or 0.0), trial.number), default=None)

    def best_recipe(self, base: Recipe) -> Recipe:
        """A recipe with the best trial's values; the recipe itself if no trial was run.

        Args:
            base: Any recipe that has the searched fields, for example that of another variant.

        Raises:
            InvalidRecipe: If the recipe lacks a searched field or refuses a value.
        """
        return base if self.best is None else with_parameters(base, self.best.parameters)

    def state_counts(self) -> dict[str, int]:
        """Number of trials in each state."""
        counts: dict[str, int] = {"complete": 0, "pruned": 0, "failed": 0, "interrupted": 0}
        for trial in self.trials:
            counts[trial.state] += 1
        return counts
