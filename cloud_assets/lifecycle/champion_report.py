"""Evaluation of a task's champion on the present labelled data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import NoChampion
from cloud_assets.families import family_of
from cloud_assets.lifecycle.held_out import held_out_test
from cloud_assets.lifecycle.promotion import CHAMPION
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.evaluator import Evaluator
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.tracking import RegisteredVersion, Tracker


@dataclass(frozen=True)
class ChampionReport:
    """The champion of today."""

    version: "RegisteredVersion"
    """Its version of the registered model."""
    evaluation: Evaluation
    """On the present test split, without the scenes that it was trained on."""
    promised: float | None
    """The gate's metric when it was registered."""
    said: str
    """One sentence."""


def evaluate_champion(
    task: Task, evaluator: Evaluator, store: PatchStore, splits: Splits, tracker: "Tracker", **references: Any
) -> ChampionReport:
    """Judges the registered champion.

    Raises:
        NoChampion: If the task has no champion.
        InvalidModel: If the champion cannot be loaded any more.
        TrackingUnavailable: If MLflow is away.
    """
    version = tracker.version_at(task.name, CHAMPION)
    if version is None:
        raise NoChampion(f"{task.name} has no champion to judge. Run its job once, or approve a challenger.")
    fair, note = held_out_test(splits, version, tracker)
    evaluation = family_of(evaluator).evaluate(evaluator, tracker.download(version), store, fair, **references)
    metric = task.gate.metric
    noted = version.tags.get(f"test_{metric}")
    promised = None if noted is None else float(noted)
    said = f"champion version {version.version}: {metric} {evaluation.metrics[metric]:.4f}"
    said += "" if promised is None else f", {promised:.4f} when it was registered"
    return ChampionReport(version, evaluation, promised, f"{said}. {note}".rstrip())
