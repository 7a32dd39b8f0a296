"""Decides which model is a task's champion, and tells the registry.

The best variant is registered and becomes ``challenger``; it becomes ``champion`` if it passes the gate and is not
worse than the present champion on the same test split. The reason is noted with the version.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.errors import GateNotPassed, InvalidModel, NothingToEvaluate, WrongInput
from cloud_assets.evaluation.evaluation import Evaluation
from cloud_assets.evaluation.gate import Decision
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.prediction.bundle import ModelBundle
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.tracking import RegisteredVersion, Tracker

CHALLENGER, CHAMPION = "challenger", "champion"
"""Aliases of the registered model."""

_METRIC_TAG = "test_"
_SAME_TEST = ("patches_version", "splits_version", "evaluation_recipe")
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
    patches_version: str
    splits_version: str
    is_synthetic: bool = Field(description="Whether the test data are simulated.")
    decided: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Champion:
    """A task's best model so far and the decision that made or left it champion.

    Saved as a folder: ``model/`` is the model bundle, ``decision.json`` the record.

    Args:
        bundle: The champion.
        record: The decision.
    """

    def __init__(self, bundle: ModelBundle, record: PromotionRecord) -> None:
        self.bundle = bundle
        self.record = record

    @property
    def data_version(self) -> str:
        """Changes when the champion does, not when another challenger is turned down."""
        return hashlib.blake2b(f"{self.bundle.version} {self.record.version}".encode(), digest_size=16).hexdigest()

    def save(self, directory: Path) -> None:
        """Writes the model and the record into a folder."""
        directory.mkdir(parents=True, exist_ok=True)
        self.bundle.save(directory / _MODEL_FOLDER)
        (directory / _RECORD_FILE).write_text(self.record.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> "Champion":
        """Reads what :meth:`save` wrote.

        Raises:
            InvalidModel: If a part is missing or damaged.
        """
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

    Args:
        task: The task.
        bundle: The best variant of this time.
        evaluation: Its evaluation on the test split.
        workspace: Its training's workspace; what an outage of MLflow kept from being logged is logged now.
        store: The patches.
        splits: Their splits; the present champion is judged on the same test split.
        tracker: MLflow.
        progress: Show progress bars.

    Returns:
        The champion after the decision, and the decision.

    Raises:
        TrackingUnavailable: If MLflow is away; nothing is decided then.
        GateNotPassed: If the challenger is turned down and there is no other champion.
    """
    run_id = tracker.publish(workspace, bundle)
    tracker.log_evaluation(run_id, evaluation)
    challenger = tracker.register(run_id, bundle, _version_tags(task, evaluation))
    tracker.set_alias(task.name, CHALLENGER, challenger.version)
    present = tracker.version_at(task.name, CHAMPION)
    if present is None:
        decision, rival = task.gate.decide(evaluation.metrics, None), None
    elif present.version == challenger.version:
        decision = Decision(False, f"kept: the best variant is the champion already, version {present.version}")
        rival = _Rival(present, bundle, evaluation.metrics)
    else:
        rival = _judge(task, present, evaluation, store, splits, tracker, progress)
        decision = _decide(task, evaluation, rival)
    if decision.accepted:
        tracker.set_alias(task.name, CHAMPION, challenger.version)
    if present is None or present.version != challenger.version:
        tracker.tag_version(challenger, {"decision": decision.reason, "decided": datetime.now(UTC).isoformat()})
    champion, champion_bundle = (challenger, bundle) if decision.accepted or rival is None else rival.standing()
    if not decision.accepted and rival is None:
        raise GateNotPassed(
            f"{task.name} has no champion yet, and {bundle.card.variant} does not become one: {decision.reason}. Train "
            "longer or on more data, or lower the task's gate."
        )
    record = PromotionRecord(
        task=task.name,
        variant=champion_bundle.card.variant,
        version=champion.version,
        run_id=champion.run_id,
        challenger_variant=bundle.card.variant,
        challenger_version=challenger.version,
        promoted=decision.accepted,
        reason=decision.reason,
        metric=task.gate.metric,
        challenger_value=evaluation.metrics.get(task.gate.metric),
        previous_version=None if rival is None else rival.version.version,
        previous_value=None if rival is None else rival.metrics.get(task.gate.metric),
        patches_version=store.data_version,
        splits_version=splits.data_version,
        is_synthetic=evaluation.is_synthetic,
    )
    return Champion(champion_bundle, record)


@dataclass(frozen=True)
class _Rival:
    """The present champion."""

    version: "RegisteredVersion"
    bundle: ModelBundle | None
    """None if it cannot be loaded any more."""
    metrics: Mapping[str, float]
    """On the challenger's test split; empty if it cannot be judged there."""
    trouble: str = ""
    """Why it cannot be loaded or judged."""

    def standing(self) -> "tuple[RegisteredVersion, ModelBundle]":
        """The champion after the challenger was turned down."""
        if self.bundle is None:
            raise GateNotPassed(
                f"the champion of {self.version.task}, version {self.version.version}, cannot be loaded "
                f"({self.trouble}), and the challenger does not pass the gate either. Train a better one, or point the "
                "alias champion to an older version."
            )
        return self.version, self.bundle


def _judge(
    task: Task,
    present: "RegisteredVersion",
    evaluation: Evaluation,
    store: PatchStore,
    splits: Splits,
    tracker: "Tracker",
    progress: bool,
) -> _Rival:
    """Finds out what the present champion achieves on the challenger's test split."""
    try:
        bundle = tracker.download(present)
    except InvalidModel as error:
        return _Rival(present, None, {}, str(error))
    asked = _version_tags(task, evaluation)
    noted = present.tags.get(_METRIC_TAG + task.gate.metric)
    if noted is not None and all(present.tags.get(name) == asked[name] for name in _SAME_TEST):
        return _Rival(present, bundle, {task.gate.metric: float(noted)})
    try:
        return _Rival(present, bundle, task.evaluation.evaluate(bundle, store, splits, progress=progress).metrics)
    except (NothingToEvaluate, WrongInput) as error:
        return _Rival(present, bundle, {}, str(error))


def _decide(task: Task, evaluation: Evaluation, rival: _Rival) -> Decision:
    if rival.bundle is None:
        decision = task.gate.decide(evaluation.metrics, None)
        return Decision(decision.accepted, f"{decision.reason}, for the present one cannot be loaded: {rival.trouble}")
    if evaluation.is_synthetic and rival.version.tags.get("is_synthetic") == "false":
        return Decision(
            False,
            f"rejected: judged on simulated images only, while the champion, version {rival.version.version}, proved "
            "itself on real ones",
        )
    decision = task.gate.decide(evaluation.metrics, rival.metrics)
    return Decision(decision.accepted, f"{decision.reason}. {rival.trouble}" if rival.trouble else decision.reason)


def _version_tags(task: Task, evaluation: Evaluation) -> dict[str, str]:
    recipe = json.dumps(task.evaluation.model_dump(mode="json"), sort_keys=True)
    names = (task.gate.metric, *task.gate.must_beat)
    return {
        "patches_version": evaluation.patches_version,
        "splits_version": evaluation.splits_version,
        "evaluation_recipe": hashlib.blake2b(recipe.encode(), digest_size=8).hexdigest(),
        "is_synthetic": str(evaluation.is_synthetic).lower(),
        **{_METRIC_TAG + name: repr(evaluation.metrics[name]) for name in names if name in evaluation.metrics},
    }
