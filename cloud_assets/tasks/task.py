"""The declaration of a task: data, patches, splits, variants, evaluation, gate; the files of tasks of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cloud_assets.datasets.dataset import Dataset
from cloud_assets.errors import InvalidRecipe
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.search_space import SearchSpace, StudyRecipe
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Gate
from cloud_assets.reports.evaluation import Evaluator
from cloud_assets.settings import settings


class Splitter(Protocol):
    """How patches are divided: a pydantic model that can split."""

    def split(self, store: PatchStore) -> Splits:
        """Divides a store's patches."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The settings as plain values."""


@dataclass(frozen=True)
class Task:
    """One lineage: raw scenes, labelled patches, splits, trained models, evaluation reports, champion.

    Raises:
        InvalidRecipe: If a name cannot be part of an asset key, or there is no variant.
    """

    name: str  # name of the job, the asset group, the experiment and the registered model
    title: str  # one line for people
    description: str  # what the model answers and what it learns from; Markdown
    dataset: Dataset  # where scenes come from
    patches: PatchRecipe  # how scenes become patches
    split: Splitter  # how patches are divided
    variants: Mapping[str, Recipe]  # ways to train, by name
    evaluation: Evaluator  # how models are judged
    gate: Gate  # what a model must achieve to become champion
    optional_variants: tuple[str, ...] = ()
    """Variants that the task's job and the demo leave out. Materialised by their keys, they compete like any other."""
    search_space: SearchSpace | None = None
    """What a hyper-parameter study may vary in the variants' recipes; None: the task has no study."""
    study: StudyRecipe = field(default_factory=StudyRecipe)
    """How the study searches, unless the run configuration says otherwise."""
    export: ExportRecipe | None = None  # how the champion is exported to ONNX; None: it is not
    references: tuple[str, ...] = ()
    """Tasks whose champions, where there are any, evaluations get as ``references`` to compare with."""
    tags: Mapping[str, str] = field(default_factory=dict)  # tags of all its assets
    owners: tuple[str, ...] = ("team:remote-sensing",)  # who is asked about its assets

    @property
    def required_variants(self) -> tuple[str, ...]:
        """Variants that the task's job trains."""
        return tuple(variant for variant in self.variants if variant not in self.optional_variants)

    def __post_init__(self) -> None:
        if not self.variants:
            raise InvalidRecipe(f"The task {self.name!r} has no variant to train.")
        unknown = set(self.optional_variants) - set(self.variants)
        if unknown:
            raise InvalidRecipe(f"The task {self.name!r} has no variant {', '.join(sorted(unknown))} to make optional.")
        if not self.required_variants:
            raise InvalidRecipe(f"All variants of the task {self.name!r} are optional: its job would train none.")
        for name in (self.name, *self.variants):
            if not name.isidentifier():
                raise InvalidRecipe(f"{name!r} cannot name a task or variant: use letters, digits and underscores.")


def tasks_folder() -> Path | None:
    """The folder of the files; None where results lie in an object store and no folder is named."""
    found = settings()
    if found.tasks is not None:
        return found.tasks
    return None if "://" in found.home else Path(found.home).expanduser().absolute() / "tasks"


def task_files() -> list[Path]:
    """The files, in the order of their names."""
    folder = tasks_folder()
    return sorted(folder.glob("*.yaml")) if folder is not None and folder.is_dir() else []
