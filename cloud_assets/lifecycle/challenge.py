"""The present champion, evaluated on the challenger's test split exactly as the challenger was.

Scenes that a model has learnt from, because splits have changed since, are left out of its test split.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloud_assets.errors import CloudAssetsError, InvalidModel, InvalidReport, NoChampion
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.bootstrap import model_difference, model_interval
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.gate import Decision
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.reports.bootstrap import Interval
    from cloud_assets.tracking import RegisteredVersion, Tracker

SEEN_FILE = "seen_groups.json"
"""Artifact of a training's MLflow run: the groups whose patches it learnt from or was tuned on."""
_FEWEST = 2


@dataclass(frozen=True)
class PresentChampion:
    """The present champion and what it achieves."""

    version: "RegisteredVersion"
    """Its version of the registered model."""
    bundle: ModelBundle | None = None
    """None if it cannot be loaded any more."""
    evaluation: Evaluation | None = None
    """On the challenger's test split; None if it cannot be evaluated there."""
    challenger: Evaluation | None = None
    """The challenger's evaluation on the same scenes."""
    problem: str = ""
    """Why it cannot be loaded or evaluated."""
    note: str = ""
    """What is particular about the test scenes."""

    def loaded(self) -> ModelBundle:
        """The champion's model, after the challenger was turned down."""
        if self.bundle is None:
            raise NoChampion(
                f"the champion of {self.version.task}, version {self.version.version}, cannot be loaded "
                f"({self.problem}), and the challenger does not take its place either. Train a better one, or return "
                f"to an older version: cloud-assets models rollback {self.version.task}"
            )
        return self.bundle


def seen_groups(splits: Splits) -> list[str]:
    """The groups of the training and validation patches."""
    learnt = splits.table["split"].isin(["train", "validation"])
    return sorted(str(group) for group in splits.table.loc[learnt, "group"].unique())


def held_out_test(splits: Splits, version: "RegisteredVersion", tracker: "Tracker") -> tuple[Splits, str]:
    """The splits without those test groups that a registered model has seen, and a sentence if there are any."""
    noted = tracker.noted(version.run_id, SEEN_FILE)
    seen = set() if noted is None else set(noted["groups"])
    table = splits.table
    is_test = table["split"] == "test"
    known = is_test & table["group"].astype(str).isin(seen)
    total, known_groups = table.loc[is_test, "group"].nunique(), table.loc[known, "group"].nunique()
    if not known_groups:
        return splits, ""
    if total - known_groups < _FEWEST:
        return splits, f"The champion was trained on {known_groups} of the {total} test scenes, which flatters it."
    said = f"Judged on the {total - known_groups} of {total} test scenes that the champion was not trained on."
    return Splits(table[~known].reset_index(drop=True), splits.details), said


def evaluate_present(
    task: Task,
    present: "RegisteredVersion",
    challenger: ModelBundle,
    evaluation: Evaluation,
    store: PatchStore,
    splits: Splits,
    tracker: "Tracker",
    progress: bool,
) -> PresentChampion:
    """Evaluates the present champion by the settings and references that the challenger's evaluation states.

    Test scenes that the champion was trained on are left out for both.
    """
    try:
        bundle = tracker.download(present)
    except InvalidModel as error:
        return PresentChampion(present, problem=str(error))
    fair, note = held_out_test(splits, present, tracker)
    family = family_of(task.evaluation)
    try:
        evaluator = type(task.evaluation).model_validate(evaluation.recipe)
        references = {name: _registered(tracker, name, version) for name, version in evaluation.references.items()}
        champion = family.evaluate(evaluator, bundle, store, fair, references=references, progress=progress)
        if fair is not splits:
            evaluation = family.evaluate(evaluator, challenger, store, fair, references=references, progress=progress)
    except InvalidModel as error:  # weights that do not fit their network show only now
        return PresentChampion(present, problem=str(error))
    except CloudAssetsError as error:
        return PresentChampion(present, bundle, problem=str(error))
    return PresentChampion(present, bundle, champion, evaluation, note=note)


def decide_against(
    task: Task, evaluation: Evaluation, present: PresentChampion | None
) -> "tuple[Decision, Interval | None]":
    """Decides between a challenger and the present champion, if any.

    Returns:
        The decision, and the confidence interval of the paired difference if there is one.
    """
    gate = task.gate
    interval = model_interval(evaluation, gate.metric, gate.confidence)
    if present is None:
        return gate.decide(evaluation.metrics, None, interval=interval), None
    version = present.version.version
    if present.bundle is None:
        alone = gate.decide(evaluation.metrics, None, interval=interval)
        reason = f"{alone.reason}: the present one, version {version}, cannot be loaded: {present.problem}"
        return Decision(alone.accepted, reason), None
    if evaluation.is_synthetic and present.version.tags.get("is_synthetic") == "false":
        reason = (
            f"rejected: evaluated on simulated images only, while the champion, version {version}, was accepted on "
            "real ones"
        )
        return Decision(False, reason), None
    passed = gate.passes(evaluation.metrics, interval)
    if not passed.accepted:
        return passed, None
    if present.evaluation is None or present.challenger is None:
        decision = gate.decide(evaluation.metrics, {})
        return Decision(decision.accepted, f"{decision.reason}. {present.problem}"), None
    difference = model_difference(present.challenger, present.evaluation, gate.metric, gate.confidence)
    decision = gate.decide(present.challenger.metrics, present.evaluation.metrics, difference)
    reason = f"{decision.reason}. {present.note}" if present.note else decision.reason
    return Decision(decision.accepted, reason), difference


def _registered(tracker: "Tracker", task: str, model_version: str) -> ModelBundle:
    """A registered model by the version of its bundle."""
    for version in tracker.versions(task):
        if version.tags.get("model_version") == model_version:
            return tracker.download(version)
    raise InvalidReport(
        f"the challenger was compared with model {model_version} of {task}, which is not registered any more, so the "
        "champion cannot be evaluated in the same way. Evaluate the challenger again"
    )
