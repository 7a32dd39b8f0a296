"""The present champion, judged anew on the challenger's test split in the same run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloud_assets.errors import CloudAssetsError, InvalidModel, NoChampion
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.held_out import unseen_test
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.gate import Decision
from cloud_assets.reports.model_difference import model_difference
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.reports.bootstrap import Interval
    from cloud_assets.tracking import RegisteredVersion, Tracker


@dataclass(frozen=True)
class Rival:
    """The present champion and what it achieves."""

    version: "RegisteredVersion"
    """Its version of the registered model."""
    bundle: ModelBundle | None
    """None if it cannot be loaded any more."""
    evaluation: Evaluation | None
    """On the challenger's test split; None if it cannot be judged there."""
    challenger: Evaluation | None = None
    """The challenger's evaluation on the same scenes."""
    trouble: str = ""
    """Why it cannot be loaded or judged."""
    note: str = ""
    """What is particular about the test scenes."""

    def value(self, metric: str) -> float | None:
        """A metric of its evaluation, None if there is none."""
        return None if self.evaluation is None else self.evaluation.metrics.get(metric)

    def standing(self) -> "tuple[RegisteredVersion, ModelBundle]":
        """The champion after the challenger was turned down.

        Raises:
            NoChampion: If it cannot be loaded.
        """
        if self.bundle is None:
            raise NoChampion(
                f"the champion of {self.version.task}, version {self.version.version}, cannot be loaded "
                f"({self.trouble}), and the challenger does not take its place either. Train a better one, or return "
                f"to an older version: cloud-assets models rollback {self.version.task}"
            )
        return self.version, self.bundle


def judge_rival(
    task: Task,
    present: "RegisteredVersion",
    challenger: ModelBundle,
    evaluation: Evaluation,
    store: PatchStore,
    splits: Splits,
    tracker: "Tracker",
    progress: bool,
) -> Rival:
    """Finds out what the present champion achieves, and the challenger on the same scenes.

    Test scenes that the champion was trained on are left out for both.

    Args:
        task: The task.
        present: The champion.
        challenger: The challenger.
        evaluation: Its evaluation on the whole test split.
        store: The patches.
        splits: Their splits.
        tracker: The registry.
        progress: Show progress bars.

    Raises:
        TrackingUnavailable: If MLflow is away.
    """
    try:
        bundle = tracker.download(present)
    except InvalidModel as error:
        return Rival(present, None, None, trouble=str(error))
    fair, note = unseen_test(splits, present, tracker)
    try:
        family = family_of(task.evaluation)
        rival = family.evaluate(task.evaluation, bundle, store, fair, progress=progress)
        if fair is not splits:
            evaluation = family.evaluate(task.evaluation, challenger, store, fair, progress=progress)
    except InvalidModel as error:  # weights that do not fit their network show only now
        return Rival(present, None, None, trouble=str(error))
    except CloudAssetsError as error:
        return Rival(present, bundle, None, trouble=str(error))
    return Rival(present, bundle, rival, evaluation, note=note)


def decide_against(task: Task, evaluation: Evaluation, rival: Rival) -> "tuple[Decision, Interval | None]":
    """Decides between a challenger and the present champion.

    Args:
        task: The task, for its gate.
        evaluation: The challenger's evaluation.
        rival: The champion.

    Returns:
        The decision, and the confidence interval of the paired difference if there is one.
    """
    if rival.bundle is None:
        alone = task.gate.decide(evaluation.metrics, None)
        said = f"{alone.reason}: the present one, version {rival.version.version}, cannot be loaded: {rival.trouble}"
        return Decision(alone.accepted, said), None
    if evaluation.is_synthetic and rival.version.tags.get("is_synthetic") == "false":
        said = (
            f"rejected: judged on simulated images only, while the champion, version {rival.version.version}, proved "
            "itself on real ones"
        )
        return Decision(False, said), None
    passed = task.gate.passes(evaluation.metrics)
    if not passed.accepted:
        return passed, None
    if rival.evaluation is None or rival.challenger is None:
        decision = task.gate.decide(evaluation.metrics, {})
        return Decision(decision.accepted, f"{decision.reason}. {rival.trouble}"), None
    difference = model_difference(rival.challenger, rival.evaluation, task.gate.metric, task.gate.confidence)
    decision = task.gate.decide(rival.challenger.metrics, rival.evaluation.metrics, difference)
    return Decision(
        decision.accepted, f"{decision.reason}. {rival.note}" if rival.note else decision.reason
    ), difference
