"""Models by what users call them: a folder, a name of the package, ``models:/<task>@<alias>``; the champions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import InvalidModel, InvalidRecipe, NoChampion, NoModelForProduct
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle, shipped_bundle
from cloud_assets.lifecycle.promotion import CHAMPION, held_out_test
from cloud_assets.networks.shipped import SHIPPED, SIMULATION
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation, Evaluator
from cloud_assets.scenes.prediction import Model
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.tracking import RegisteredVersion, Tracker

REGISTERED = "models:/"  # how references to the registry begin
_SHIPPED = f"the model that comes with the package (--model {SIMULATION})"


def load_model(path_or_name: Path | str, device: str = "auto") -> Model:
    """A trained model.

    Args:
        path_or_name: The folder of a trained model; ``simulation``, the model for cloud masks that comes with the
            package, ``simulation-fast`` (coarser) or ``simulation-large`` (finer, mean over four orientations); or
            ``models:/<task>@<alias>`` (also without ``models:/``) or ``models:/<task>/<version>`` in the registry.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Raises:
        InvalidRecipe: If there is no such folder.
        InvalidModel: If the folder holds no whole model.
        NoModelForProduct: If the registry holds no such model.
        TrackingUnavailable: If the registry does not answer.

    Example:
        >>> from cloud_assets import load_model
        >>> model = load_model("simulation", device="cpu")
        >>> model.card.family, model.card.classes
        ('segmentation', ('clear', 'thick cloud', 'thin cloud', 'cloud shadow'))
    """
    return Model(referenced_bundle(path_or_name), device)


def referenced_bundle(reference: Path | str) -> ModelBundle:
    """The model that a reference names: see :func:`load_model`."""
    if is_registered(reference):
        from cloud_assets.tracking import Tracker

        registry = Tracker()
        return registry.download(registered_version(registry, str(reference)))
    if str(reference) in SHIPPED:
        return shipped_bundle(str(reference))
    folder = Path(reference)
    if not folder.is_dir():
        raise InvalidRecipe(
            f"{str(reference)!r} is neither the folder of a trained model nor {REGISTERED}<task>@<alias> nor "
            f"one of {', '.join(SHIPPED)}. Give one of these."
        )
    return ModelBundle.open(folder)


def is_registered(reference: Path | str) -> bool:
    """Whether a reference names a model in the registry: ``models:/…``, or ``<task>@<alias>`` that is no folder."""
    return str(reference).startswith(REGISTERED) or ("@" in str(reference) and not Path(reference).exists())


def registered_version(registry: "Tracker", reference: str) -> "RegisteredVersion":
    """The version behind ``models:/<task>@<alias>`` or ``models:/<task>/<number>``; :class:`NoModelForProduct`."""
    task, at, alias = reference.removeprefix(REGISTERED).partition("@")
    if at:
        found = registry.version_at(task, alias)
    else:
        task, _, number = task.rpartition("/")
        found = next((version for version in registry.versions(task) if str(version.version) == number), None)
    if found is None:
        raise NoModelForProduct(f"{reference}: not in {registry.uri}. Look: cloud-assets models list.")
    return found


@dataclass(frozen=True)
class ModelsForScenes:
    """The models for scenes where none are named."""

    bundles: tuple[ModelBundle, ...]
    said: tuple[str, ...]
    """A sentence about each champion: what it makes, or why it is left out; and about the model of the package."""
    without: tuple[str, ...]  # tasks that have no champion


def models_for_scenes(tracker: "Tracker", tasks: Sequence[Task]) -> ModelsForScenes:
    """Champions that this installation can read, but none that learnt from simulated patches of a sample.

    Where no champion makes masks, the model that comes with the package does.
    """
    bundles, said, without = [], [], []
    for task in tasks:
        version = tracker.version_at(task.name, CHAMPION)
        if version is None:
            without.append(task.name)
            continue
        name = f"models:/{task.name}/{version.version}"
        try:
            bundle = tracker.download(version)
        except InvalidModel as error:
            said.append(f"{name} cannot be used; scenes go without it: {error}")
            continue
        if bundle.card.is_synthetic_training_data:
            said.append(f"{name} learnt from simulated patches and is left out (predict --model {name} uses it).")
        else:
            bundles.append(bundle)
            said.append(f"{bundle.card.family} by {name} ({bundle.card.variant})")
    shipped = shipped_bundle(SIMULATION)
    if all(bundle.card.family != shipped.card.family for bundle in bundles):
        bundles.append(shipped)
        said.append(f"{shipped.card.family} by {_SHIPPED}")
    return ModelsForScenes(tuple(bundles), tuple(said), tuple(without))


def champion_of(tracker: "Tracker", task: Task) -> "tuple[RegisteredVersion, ModelBundle]":
    """The champion of one task; :class:`NoChampion` if it has none."""
    version = tracker.version_at(task.name, CHAMPION)
    if version is None:
        raise NoChampion(f"{task.name} has no champion to judge. Run its job once, or approve a challenger.")
    return version, tracker.download(version)


@dataclass(frozen=True)
class ChampionReport:
    """The champion of today."""

    version: "RegisteredVersion"
    evaluation: Evaluation  # on the present test split, without the scenes that it was trained on
    promised: float | None  # the gate's metric when it was registered
    said: str


def evaluate_champion(
    task: Task, evaluator: Evaluator, store: PatchStore, splits: Splits, tracker: "Tracker", **references: Any
) -> ChampionReport:
    """Judges the registered champion."""
    version, bundle = champion_of(tracker, task)
    fair, note = held_out_test(splits, version, tracker)
    evaluation = family_of(evaluator).evaluate(evaluator, bundle, store, fair, **references)
    metric = task.gate.metric
    noted = version.tags.get(f"test_{metric}")
    promised = None if noted is None else float(noted)
    said = f"champion version {version.version}: {metric} {evaluation.metrics[metric]:.4f}"
    said += "" if promised is None else f", {promised:.4f} when it was registered"
    return ChampionReport(version, evaluation, promised, f"{said}. {note}".rstrip())
