"""How a hyper-parameter study searches, as a plain declaration that a run configuration can change; Optuna-free."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud_assets.errors import InvalidRecipe


class StudyRecipe(BaseModel):
    """How a study searches, whatever its trials train."""

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
        description="Optuna storage URL, such as postgresql://user@host/db. Unset: a SQLite file in the workspace.",
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
        description="What ends trials early: being worse than the median of the others at the same epoch, or Hyperband "
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
