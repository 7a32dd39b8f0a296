"""Hyper-parameter studies as plain declarations: what is searched and how; free of torch and Optuna."""

import hashlib
import json
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, Field, RootModel, ValidationError, model_validator

from cloud_assets.errors import InvalidRecipe

Recipe = TypeVar("Recipe", bound=BaseModel)
Number = TypeVar("Number", int, float)
Value = str | int | float | bool | None  # what a searched field can be set to


class _Range(BaseModel, Generic[Number], frozen=True, extra="forbid"):
    """A range of numbers, both bounds included."""

    low: Number = Field(description="Smallest value.")
    high: Number = Field(description="Largest value.")
    log: bool = Field(default=False, description="Search evenly over orders of magnitude; for rates and decays.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise InvalidRecipe(f"a range must rise: low {self.low} is not below high {self.high}.")
        if self.log and self.low <= 0:
            raise InvalidRecipe(f"a logarithmic range must begin above 0, not at {self.low}.")
        return self

    @property
    def examples(self) -> tuple[Value, ...]:
        """The bounds: values that the recipe has to accept."""
        return (self.low, self.high)

    def holds(self, value: Value) -> bool:
        """Whether a value lies in the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


class FloatRange(_Range[float], frozen=True):
    """A real number between two bounds, both included."""

    kind: Literal["float"] = "float"


class IntegerRange(_Range[int]):
    """A whole number between two bounds, both included."""

    kind: Literal["integer"] = "integer"

    def holds(self, value: Value) -> bool:
        """Whether a value is a whole number in the range."""
        return isinstance(value, int) and super().holds(value)


class Choice(BaseModel, frozen=True, extra="forbid"):
    """One of a few values."""

    kind: Literal["choice"] = "choice"
    options: tuple[Value, ...] = Field(min_length=2, description="The values to choose from.")

    @property
    def examples(self) -> tuple[Value, ...]:
        """All options: values that the recipe has to accept."""
        return self.options

    def holds(self, value: Value) -> bool:
        """Whether a value is one of the options; 1 is not True here, and 1 is not 1.0."""
        return any(value == option and type(value) is type(option) for option in self.options)


Dimension = Annotated[FloatRange | IntegerRange | Choice, Field(discriminator="kind")]


class SearchSpace(RootModel[Mapping[str, Dimension]]):
    """Dotted path of a recipe's field -> the values that it may take.

    ``SearchSpace({"optimisation.learning_rate": FloatRange(low=1e-5, high=1e-2, log=True)})`` serves every recipe.
    """

    @property
    def digest(self) -> str:
        """Hash of the space; the order of its paths does not matter."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def check(self, recipe: BaseModel) -> None:
        """Proves that a recipe accepts every option and both bounds of every range, before any trial is run.

        Raises:
            InvalidRecipe: If the space is empty, or names a field or a value that the recipe does not have.
        """
        if not self.root:
            raise InvalidRecipe("the search space is empty: name at least one field of the recipe to vary.")
        for path, dimension in self.root.items():
            for value in dimension.examples:
                with_parameters(recipe, {path: value})

    def values_of(self, recipe: BaseModel) -> dict[str, Value]:
        """The recipe's own values for the searched fields, without those that lie outside the space."""
        found = {path: _read(recipe, path) for path in self.root}
        return {path: value for path, value in found.items() if self.root[path].holds(value)}

    def drawn(self, trial: Any) -> dict[str, Value]:
        """The values that the sampler of a trial of Optuna draws."""
        return {
            path: trial.suggest_categorical(path, dimension.options)
            if isinstance(dimension, Choice)
            else (trial.suggest_float if isinstance(dimension, FloatRange) else trial.suggest_int)(
                path, dimension.low, dimension.high, log=dimension.log
            )
            for path, dimension in self.root.items()
        }


def with_parameters(recipe: Recipe, parameters: Mapping[str, Value]) -> Recipe:
    """A validated recipe of the same class with the fields at some dotted paths set to other values.

    Raises:
        InvalidRecipe: If there is no such field, or it refuses the value.
    """
    content = recipe.model_dump()
    for path, value in parameters.items():
        _read(recipe, path)
        *parents, name = path.split(".")
        reduce(getitem, parents, content)[name] = value
    try:
        return type(recipe).model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        described = ", ".join(f"{path} = {value!r}" for path, value in parameters.items())
        raise InvalidRecipe(f"{type(recipe).__name__} does not accept {described} ({problems}).") from error


def _read(recipe: BaseModel, path: str) -> Any:
    value: Any = recipe
    for name in path.split("."):
        if not isinstance(value, BaseModel) or name not in type(value).model_fields:
            known = ", ".join(type(value).model_fields) if isinstance(value, BaseModel) else "no fields"
            raise InvalidRecipe(
                f"{type(recipe).__name__} has no field {path!r}: {type(value).__name__} has {known}. "
                "Correct the search space."
            )
        value = getattr(value, name)
    return value


class StudyRecipe(BaseModel, frozen=True, extra="forbid"):
    """How a study searches, whatever its trials train."""

    trials: int = Field(
        0, ge=0, description="Trials in all, with those of earlier sessions. 0: the recipe's own values are used."
    )
    workers: int = Field(default=1, ge=1, description="Processes that train trials side by side, one thread each.")
    variant: str | None = Field(default=None, description="Variant whose recipe is searched. Unset: the first.")
    metric: str = Field(default="val_loss", description="Metric that is optimised; a trial is worth its best epoch.")
    mode: Literal["max", "min"] = Field(default="min", description="Whether more or less of the metric is better.")
    name: str | None = Field(default=None, description="Name in the storage. Unset: of task, variant, data and space.")
    storage: str | None = Field(
        default=None,
        description="Optuna storage URL, as postgresql+psycopg2://user@host/db. Unset: a SQLite file in the workspace.",
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
    trial_epochs: int | None = Field(default=None, ge=1, description="Most epochs of a trial. Unset: as the recipe.")
    trial_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Time limit of a trial: it ends with the epoch, worth its best so far; one that hangs is killed.",
    )
    study_minutes: float | None = Field(
        default=None, gt=0, description="After this long no further trial is begun; run again to go on."
    )
    retries: int = Field(default=2, ge=0, description="How often an interrupted trial is run again as it was.")
    seed: int = Field(default=0, ge=0, description="Seed of the sampler.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name is not None and not self.name.strip():
            raise InvalidRecipe("a study's name must not be blank; leave it unset for one made of task and variant.")
        return self
