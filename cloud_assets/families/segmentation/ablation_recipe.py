"""What an ablation takes apart: ingredients of a segmentation recipe, added one after another; torch-free."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.learning.search_space import with_parameters


class Ingredient(BaseModel):
    """One row of the table: what it changes in the recipe of the row above."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="What stands in the table.")
    changes: Mapping[str, Any] = Field(description="Fields of the recipe by dotted path, and their values.")


class AblationRecipe(BaseModel):
    """Which ingredients, how often and how long.

    All rows train for the same number of steps, however busy the machine is; minutes would favour cheap rows. An
    ingredient may set ``optimisation.max_epochs`` and ``optimisation.steps_per_epoch`` all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str | None = Field(default=None, description="Variant whose recipe is taken apart. Unset: the first.")
    plain: Mapping[str, Any] = Field(
        default_factory=dict,
        description="What is taken from that recipe for the first row, by dotted path. Given anew, it replaces all of "
        "the task's own: what it does not name stays as in the recipe.",
    )
    ingredients: tuple[Ingredient, ...] = Field(default=(), description="What is added, row by row.")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="Every row is trained once with each.")
    epochs: int = Field(default=12, ge=1, description="Epochs of each training.")
    steps_per_epoch: int = Field(default=50, ge=1, description="Batches an epoch.")
    threads: int | None = Field(default=None, ge=1, description="Threads of torch. Unset: torch decides.")
    judged_patches: int = Field(
        default=60, ge=1, description="Simulated patches that all rows are judged on beside the validation split."
    )
    curve: tuple[int, ...] = Field(
        default=(), description="Numbers of simulated patches to train on alone, with all ingredients: learning curve."
    )
    curve_seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="Seeds of the learning curve.")
    peers: tuple[Literal["brightness", "ukis_csmask"], ...] = Field(
        default=("brightness", "ukis_csmask"),
        description="Other rules in the same table. 'ukis_csmask' is left out where that package is not installed.",
    )
    bright_ground: float = Field(
        default=0.25, gt=0, description="Clear pixels of at least this mean visible reflectance are bright ground."
    )
    shown_patches: int = Field(
        default=48, ge=1, description="Most patches that are looked through for the panels of what an ingredient fixed."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [ingredient.name for ingredient in self.ingredients]
        if len({*names, PLAIN}) <= len(names):
            raise InvalidRecipe(f"ingredients need different names, and none may be called {PLAIN!r}: {names}.")
        return self

    def rows(self, base: Segmentation) -> dict[str, Segmentation]:
        """The recipe of each row, seed left out.

        The plain one starts from random weights unless ``plain`` says otherwise.

        Args:
            base: The recipe that is taken apart.

        Returns:
            Recipes by the name of the row, the plain one first.

        Raises:
            InvalidRecipe: If a field does not exist or refuses its value.
        """
        steps = {
            "optimisation.max_epochs": self.epochs,
            "optimisation.steps_per_epoch": self.steps_per_epoch,
            "optimisation.budget_minutes": None,
            "optimisation.threads": self.threads,
        }
        start = {} if {"network", _WEIGHTS} & set(self.plain) else _from_nothing(base)
        recipe = with_parameters(base, {**steps, **start, **self.plain})
        rows = {PLAIN: recipe}
        for ingredient in self.ingredients:
            recipe = with_parameters(recipe, ingredient.changes)
            rows[ingredient.name] = recipe
        return rows

    def curve_rows(self, base: Segmentation) -> dict[int, Segmentation]:
        """The recipes of the learning curve, by number of simulated patches.

        Neither a real pixel nor weights from elsewhere take part in any way.
        """
        full = list(self.rows(base).values())[-1]
        alone: dict[str, Any] = {"simulated_fraction": 1.0, "composited_fraction": 0.0, "real_validation": False}
        alone |= _from_nothing(full)
        if not full.simulated_validation:
            alone["simulated_validation"] = 24
        return {count: with_parameters(full, {**alone, "simulated_patches": count}) for count in self.curve}


PLAIN = "plain recipe"
"""Name of the first row."""
_WEIGHTS = "network.encoder_weights"


def _from_nothing(recipe: Segmentation) -> dict[str, Any]:
    """What has a network start from random weights, of which nothing is worth keeping."""
    return {_WEIGHTS: "none", "start_share": 0.0} if "encoder_weights" in type(recipe.network).model_fields else {}


def seeded(recipe: Segmentation, seed: int) -> Segmentation:
    """The same recipe with another seed."""
    return with_parameters(recipe, {"optimisation.seed": seed})
