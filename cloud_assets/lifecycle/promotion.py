"""Promotion: decides which model is a task's champion and sets its alias in the registry.

The best variant is registered and becomes ``challenger``; it becomes ``champion`` if it passes the gate and is better
than the present champion, which is evaluated on the same test split in the same way. The reason is noted with the
version first, the alias is moved last: a run that is killed or loses MLflow in between has decided nothing, and decides
again.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.errors import AlreadyRunning, InvalidModel, NoChampion
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.challenge import PresentChampion, decide_against, evaluate_present
from cloud_assets.lifecycle.model_item import model_item
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.gate import Decision
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.reports.bootstrap import Interval
    from cloud_assets.tracking import RegisteredVersion, Tracker

CHALLENGER, CHAMPION = "challenger", "champion"
"""Aliases of the registered model."""

SINCE, ROLLED_BACK, APPROVAL = "champion_since", "rolled_back", "approval"
"""Tags of a version: when it became champion, why it was taken back, what a person said."""
WAITING, APPROVED, REJECTED = "waiting", "approved", "rejected"
"""Values of the tag :data:`APPROVAL`."""

_METRIC_TAG = "test_"
_ATTEMPTS = 3
_RECORD_FILE, _MODEL_FOLDER = "decision.json", "model"


class PromotionRecord(BaseModel):
    """What was decided, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    variant: str = Field(description="The champion's variant.")
    version: int = Field(description="The champion's version of the registered model.")
    run_id: str = Field(description="The MLflow run that trained the champion.")
    challenger_variant: str = Field(description="The best variant of this time.")
    challenger_version: int = Field(description="Its version of the registered model.")
    promoted: bool = Field(description="Whether the challenger became champion.")
    reason: str = Field(description="Why.")
    metric: str = Field(description="The gate's metric.")
    challenger_value: float | None = Field(description="The challenger's value on the test split.")
    previous_version: int | None = Field(description="Version of the champion before the decision.")
    previous_value: float | None = Field(description="Its value on the same test split.")
    difference_low: float | None = Field(None, description="Lower end of the interval of challenger minus champion.")
    difference_high: float | None = Field(None, description="Its upper end.")
    waits_for_approval: bool = Field(False, description="Whether a person has to approve the challenger.")
    patches_version: str
    splits_version: str
    is_synthetic: bool = Field(description="Whether the test data are simulated.")
    decided: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Champion:
    """A task's best model so far and the decision that made or left it champion.

    Saved as a folder: ``model/`` is the model bundle, ``decision.json`` the record.
    """

    def __init__(self, bundle: ModelBundle, record: PromotionRecord) -> None:
        self.bundle = bundle
        self.record = record

    @property
    def data_version(self) -> str:
        """Changes when the champion does, not when another challenger is turned down."""
        return hashlib.blake2b(f"{self.bundle.version} {self.record.version}".encode(), digest_size=16).hexdigest()

    def save(self, directory: Path) -> None:
        """Writes the model, the record and a STAC item of the model into a folder."""
        directory.mkdir(parents=True, exist_ok=True)
        item = model_item(self.bundle, f"./{_MODEL_FOLDER}", self.record.version)
        (directory / "stac_item.json").write_text(json.dumps(item, indent=2), encoding="utf-8")
        self.bundle.save(directory / _MODEL_FOLDER)
        (directory / _RECORD_FILE).write_text(self.record.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> "Champion":
        """Reads what :meth:`save` wrote; :class:`InvalidModel` if a part is missing or damaged."""
        path = directory / _RECORD_FILE
        try:
            record = PromotionRecord.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidModel(f"{path} cannot be read ({error}). Materialise the champion again.") from error
        return cls(ModelBundle.open(directory / _MODEL_FOLDER), record)


def promote(
    task: Task,
    bundle: ModelBundle,
    evaluation: Evaluation,
    workspace: Path,
    store: PatchStore,
    splits: Splits,
    tracker: "Tracker",
    *,
    progress: bool = True,
) -> Champion:
    """Registers a model as challenger and decides whether it becomes champion.

    One process of a machine decides at a time. Should the champion change meanwhile all the same (on another machine,
    by hand), the challenger is compared with the new one.

    Args:
        task: The task.
        bundle: The best variant of this time.
        evaluation: Its evaluation on the test split.
        workspace: Its training's workspace; what an outage of MLflow kept from being logged is logged now.
        store: The patches.
        splits: Their splits; the present champion is judged on the same test split.
        tracker: MLflow.
        progress: Show progress bars.

    Raises:
        TrackingUnavailable: If MLflow is away; nothing is decided then.
        NoChampion: If the challenger is turned down or has to be approved, and there is no other champion.
        AlreadyRunning: If other processes keep changing the champion.
    """
    run_id = tracker.publish(workspace, bundle)
    tracker.log_evaluation(run_id, evaluation)
    challenger = tracker.register(run_id, bundle, _version_tags(task, evaluation))
    with tracker.deciding(task.name):
        tracker.set_alias(task.name, CHALLENGER, challenger.version)
        # What a person decided while this process waited for its turn counts.
        challenger = tracker.version_at(task.name, CHALLENGER) or challenger
        for _ in range(_ATTEMPTS):
            version = tracker.version_at(task.name, CHAMPION)
            if version is not None and version.version == challenger.version:
                return Champion(bundle, _kept(task, bundle, evaluation, version, tracker))
            present = (
                None
                if version is None
                else evaluate_present(task, version, bundle, evaluation, store, splits, tracker, progress)
            )
            decision, difference = _decide(task, evaluation, challenger, present)
            waits = decision.accepted and task.gate.approval == "manual"
            if waits:
                decision = Decision(
                    False, f"waits for approval (cloud-assets models approve {task.name}): {decision.reason}"
                )
            tags: dict[str, str | None] = {
                "decision": decision.reason,
                "decided": datetime.now(UTC).isoformat(),
                "compared_with": "" if version is None else str(version.version),
            }
            if waits or challenger.tags.get(APPROVAL) == WAITING:
                tags[APPROVAL] = WAITING if waits else None
            tracker.tag_version(challenger, tags)
            if not decision.accepted or make_champion(tracker, challenger, version):
                break
        else:
            raise AlreadyRunning(
                f"the champion of {task.name} changed {_ATTEMPTS} times while the challenger, version "
                f"{challenger.version}, was compared with it. Materialise the champion again when that is over."
            )
    if not decision.accepted and present is None:
        remedy = "" if waits else " Train longer or on more data, or lower the task's gate."
        raise NoChampion(
            f"{task.name} has no champion yet, and {bundle.card.variant}, version {challenger.version}, does not "
            f"become one: {decision.reason}.{remedy}"
        )
    record = _record(task, evaluation, challenger, bundle, decision, present, difference)
    if decision.accepted or present is None:
        return Champion(bundle, record)
    remaining = present.loaded()
    changes = {
        "variant": remaining.card.variant,
        "version": present.version.version,
        "run_id": present.version.run_id,
        "waits_for_approval": waits,
    }
    return Champion(remaining, record.model_copy(update=changes))


def make_champion(tracker: "Tracker", version: "RegisteredVersion", expected: "RegisteredVersion | None") -> bool:
    """Points the alias to a version; False if it points elsewhere by now than when that was decided."""
    now = tracker.version_at(version.task, CHAMPION)
    if (now and now.version) != (expected and expected.version):
        return False
    tracker.set_alias(version.task, CHAMPION, version.version)
    tracker.tag_version(version, {SINCE: datetime.now(UTC).isoformat()})
    return True


def _decide(
    task: Task, evaluation: Evaluation, challenger: "RegisteredVersion", present: PresentChampion | None
) -> "tuple[Decision, Interval | None]":
    """Decides; what a person has turned down is never taken without one."""
    if ROLLED_BACK in challenger.tags or challenger.tags.get(APPROVAL) == REJECTED:
        how = f"was rolled back: {challenger.tags[ROLLED_BACK]}" if ROLLED_BACK in challenger.tags else "was rejected"
        reason = (
            f"rejected: version {challenger.version} {how}. To make it champion all the same: cloud-assets models "
            f"approve {task.name} --version {challenger.version}"
        )
        return Decision(False, reason), None
    return decide_against(task, evaluation, present)


def _kept(
    task: Task, bundle: ModelBundle, evaluation: Evaluation, present: "RegisteredVersion", tracker: "Tracker"
) -> PromotionRecord:
    """The decision if the best variant is the champion already; what a killed run could not note is noted."""
    if SINCE not in present.tags:
        tracker.tag_version(present, {SINCE: datetime.now(UTC).isoformat()})
    decision = Decision(False, f"kept: the best variant is the champion already, version {present.version}")
    return _record(task, evaluation, present, bundle, decision, PresentChampion(present, bundle, evaluation), None)


def _record(
    task: Task,
    evaluation: Evaluation,
    challenger: "RegisteredVersion",
    bundle: ModelBundle,
    decision: Decision,
    present: PresentChampion | None,
    difference: "Interval | None",
) -> PromotionRecord:
    """The record of a decision, as if the challenger were champion now."""
    metric = task.gate.metric
    previous = None if present is None or present.evaluation is None else present.evaluation.metrics.get(metric)
    return PromotionRecord(
        task=task.name,
        variant=bundle.card.variant,
        version=challenger.version,
        run_id=challenger.run_id,
        challenger_variant=bundle.card.variant,
        challenger_version=challenger.version,
        promoted=decision.accepted,
        reason=decision.reason,
        metric=metric,
        challenger_value=evaluation.metrics.get(metric),
        previous_version=None if present is None else present.version.version,
        previous_value=previous,
        difference_low=None if difference is None else difference.low,
        difference_high=None if difference is None else difference.high,
        patches_version=evaluation.patches_version,
        splits_version=evaluation.splits_version,
        is_synthetic=evaluation.is_synthetic,
    )


def _version_tags(task: Task, evaluation: Evaluation) -> dict[str, str]:
    recipe = json.dumps(dict(evaluation.recipe), sort_keys=True)
    names = (task.gate.metric, *task.gate.trivial_values(evaluation.metrics))
    return {
        "patches_version": evaluation.patches_version,
        "splits_version": evaluation.splits_version,
        "evaluation_recipe": hashlib.blake2b(recipe.encode(), digest_size=8).hexdigest(),
        "is_synthetic": str(evaluation.is_synthetic).lower(),
        **{_METRIC_TAG + name: repr(evaluation.metrics[name]) for name in names if name in evaluation.metrics},
    }
