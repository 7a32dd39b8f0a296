"""A task of a user's own as a Dagster component: one YAML file that names data, variants and settings."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, TypeVar

import dagster as dg
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, validate_call

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families import FAMILIES
from cloud_assets.orchestration.task_definitions import task_definitions
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.reports.comparison import Gate
from cloud_assets.tasks import TASKS
from cloud_assets.tasks.task import Task, task_files

Model = TypeVar("Model", bound=BaseModel)
Named = dict[str, dict[str, Any]]  # the name of a class with its settings

_CLASSES: Final[Mapping[str, str]] = {
    "CloudSEN12": "cloud_assets.datasets.cloudsen12",
    "Cloud38": "cloud_assets.datasets.cloud38",
    "ImageFolders": "cloud_assets.datasets.image_folders",
    "LabelledScenes": "cloud_assets.imagery.labelled_scenes",
    "Sen12MS": "cloud_assets.datasets.sen12ms",
    "Segmentation": "cloud_assets.families.segmentation.recipe",
    "mixed_with_simulation": "cloud_assets.families.segmentation.recipe",
    "from_simulation": "cloud_assets.families.segmentation.recipe",
    "Classification": "cloud_assets.families.classification.recipe",
    "Reconstruction": "cloud_assets.families.anomaly.recipe",
    "SyntheticAnomalies": "cloud_assets.families.anomaly.recipe",
    "WhiteSmoothness": "cloud_assets.families.anomaly.recipe",
    "Translation": "cloud_assets.families.translation.recipe",
}
"""Data sets, recipes, and functions that make recipes, by their short names -> their module."""


class TaskComponent(dg.Component, dg.Model, dg.Resolvable):
    """A lineage from raw scenes to the champion, with its jobs, schedules and sensors.

    Data sets and recipes are given as ``ClassName: {settings}``, or ``package.module.ClassName: {settings}`` for
    classes of the user's own. Settings that are left out have their defaults.
    """

    name: str = Field(description="Name of the job, the asset group, the experiment and the registered model.")
    title: str = Field("", description="One line for people; the name without it.")
    description: str = Field("", description="What the model answers and what it learns from; Markdown.")
    dataset: Named = Field(description="Where scenes come from, such as Cloud38: {}.")
    patches: dict[str, Any] = Field(description="How scenes become patches: a PatchRecipe.")
    split: dict[str, Any] = Field(default_factory=dict, description="How patches are divided: a GroupedSplit.")
    variants: dict[str, Named] = Field(description="Ways to train: name of the variant -> a recipe, all of one family.")
    evaluation: dict[str, Any] = Field(default_factory=dict, description="How the family's models are evaluated.")
    gate: dict[str, Any] = Field(description="What a model must achieve to become champion: a Gate.")
    optional_variants: list[str] = Field(default_factory=list, description="Variants that the job leaves out.")

    def task(self) -> Task:
        """The declaration that the file describes.

        Raises:
            InvalidRecipe: If a class is unknown, a value is not allowed, or variants are of several families.
        """
        variants = {name: _named(recipe, f"variants.{name}") for name, recipe in self.variants.items()}
        families = sorted({recipe.family for recipe in variants.values()})
        if len(families) != 1:
            raise InvalidRecipe(f"{self.name}: variants must be of one family, not of {families or 'none'}.")
        return Task(
            name=self.name,
            title=self.title or self.name,
            description=self.description,
            dataset=_named(self.dataset, "dataset"),
            patches=_model(PatchRecipe, self.patches, "patches"),
            split=_model(GroupedSplit, self.split, "split"),
            variants=variants,
            evaluation=_model(FAMILIES[families[0]].evaluator, self.evaluation, "evaluation"),
            gate=_model(Gate, self.gate, "gate"),
            optional_variants=tuple(self.optional_variants),
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The task's assets, checks, jobs, schedules and sensors."""
        return task_definitions(self.task())


def own_tasks() -> list[Task]:
    """The tasks of one's own that files in the folder of tasks describe (CLOUD_ASSETS_TASKS).

    Raises:
        InvalidRecipe: If a file is no description of a task, or takes the name of another one.
    """
    import yaml

    found: dict[str, Task] = {}
    for path in task_files():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            task = TaskComponent(**content["attributes"]).task()
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError, InvalidRecipe) as error:
            raise InvalidRecipe(f"{path} describes no task ({error}). Mend it, or move it away.") from error
        if task.name in TASKS or task.name in found:
            raise InvalidRecipe(f"{path}: there is another task {task.name!r}. Give this one a name of its own.")
        found[task.name] = task
    return list(found.values())


def _named(given: Named, where: str) -> Any:
    """The model of the one class that is named, or what the function makes that is."""
    if len(given) != 1:
        raise InvalidRecipe(f"{where}: name one class, not {len(given)}; there are {', '.join(_CLASSES)}.")
    ((name, settings),) = given.items()
    module, _, kind = f"{_CLASSES[name]}.{name}".rpartition(".") if name in _CLASSES else name.rpartition(".")
    try:
        found = getattr(import_module(module), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidRecipe(f"{where}: there is no class {name}; short names are {', '.join(_CLASSES)}.") from error
    return _model(found, settings, f"{where}.{name}")


def _model(kind: type[Model] | Callable[..., Model], settings: Mapping[str, Any], where: str) -> Model:
    try:
        return (
            TypeAdapter(kind).validate_python(settings) if isinstance(kind, type) else validate_call(kind)(**settings)
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InvalidRecipe(f"{where}: {problems}.") from None
