"""Promotion: decides which model is a task's champion and sets its alias in the registry.

The best variant is registered and becomes ``challenger``; it becomes ``champion`` if it passes the gate and is better
than the present champion, which is evaluated on the same test split in the same way, without the scenes that it has
learnt from where splits have changed since. The reason is noted with the version first, the alias is moved last: a run
that is killed or loses MLflow in between has decided nothing, and decides again.

Changes by hand (approve, reject, roll back) are noted with the version and take their turn. They change only the
registry, and that at once; the champion's asset follows when it is materialised again.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from cloud_assets.errors import (
    AlreadyRunning,
    CloudAssetsError,
    InvalidModel,
    InvalidReport,
    NoChampion,
    TrackingUnavailable,
)
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.export import model_item
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Decision, model_difference, model_interval
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.report import now, readable
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.reports.statistics import Interval
    from cloud_assets.tracking import RegisteredVersion, Tracker

CHALLENGER, CHAMPION = "challenger", "champion"  # aliases of the registered model

SINCE, ROLLED_BACK, APPROVAL = "champion_since", "rolled_back", "approval"
"""Tags of a version: when it became champion, why it was taken back, what a person said."""
WAITING, APPROVED, REJECTED = "waiting", "approved", "rejected"  # values of the tag :data:`APPROVAL`

_METRIC_TAG = "test_"
_ATTEMPTS = 3
_RECORD_FILE, _MODEL_FOLDER = "decision.json", "model"

SEEN_FILE = "seen_groups.json"
"""Artifact of a training's MLflow run: the groups whose patches it learnt from or was tuned on."""
_FEWEST = 2


class PromotionRecord(BaseModel, frozen=True, extra="forbid"):
    """What was decided, and why."""

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


@dataclass(frozen=True)
class Champion:
    """A task's best model so far and the decision that made or left it champion.

    Saved as a folder: ``model/`` is the model bundle, ``decision.json`` the record.
    """

    bundle: ModelBundle
    record: PromotionRecord

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


@dataclass(frozen=True)
class PresentChampion:
    """The present champion and what it achieves."""

    version: "RegisteredVersion"
    bundle: ModelBundle | None = None  # None if it cannot be loaded any more
    evaluation: Evaluation | None = None  # on the challenger's test split; None if it cannot be evaluated there
    challenger: Evaluation | None = None  # the challenger's evaluation on the same scenes
    problem: str = ""  # why it cannot be loaded or evaluated
    note: str = ""  # what is particular about the test scenes


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


def _evaluate_present(
    task: Task,
    present: "RegisteredVersion",
    challenger: ModelBundle,
    evaluation: Evaluation,
    store: PatchStore,
    splits: Splits,
    tracker: "Tracker",
) -> PresentChampion:
    """Evaluates the present champion by the settings and references that the challenger's evaluation states.

    Test scenes that the champion was trained on are left out for both.
    """
    fair, note = held_out_test(splits, present, tracker)
    family, bundle = family_of(task.evaluation), None
    try:
        bundle = tracker.download(present)
        evaluator = type(task.evaluation).model_validate(evaluation.recipe)
        references = {name: _registered(tracker, name, version) for name, version in evaluation.references.items()}
        champion = family.evaluate(evaluator, bundle, store, fair, references=references)
        if fair is not splits:
            evaluation = family.evaluate(evaluator, challenger, store, fair, references=references)
    except TrackingUnavailable:
        raise
    except CloudAssetsError as error:
        # Weights that do not fit their network show only when it predicts.
        return PresentChampion(present, None if isinstance(error, InvalidModel) else bundle, problem=str(error))
    return PresentChampion(present, bundle, champion, evaluation, note=note)


def _decide(
    task: Task, evaluation: Evaluation, challenger: "RegisteredVersion", present: PresentChampion | None
) -> "tuple[Decision, Interval | None]":
    """Decides between a challenger and the present champion, if any; also the interval of the paired difference."""
    if ROLLED_BACK in challenger.tags or challenger.tags.get(APPROVAL) == REJECTED:
        how = f"was rolled back: {challenger.tags[ROLLED_BACK]}" if ROLLED_BACK in challenger.tags else "was rejected"
        reason = (
            f"rejected: version {challenger.version} {how}. To make it champion all the same: cloud-assets models "
            f"approve {task.name} --version {challenger.version}"
        )
        return Decision(False, reason), None
    gate = task.gate
    interval = model_interval(evaluation, gate.metric, gate.confidence)
    alone = gate.decide(evaluation.metrics, None, interval=interval)
    if present is None:
        return alone, None
    version = present.version.version
    if present.bundle is None:
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


def promote(
    task: Task,
    bundle: ModelBundle,
    evaluation: Evaluation,
    workspace: Path,
    store: PatchStore,
    splits: Splits,
    tracker: "Tracker",
) -> Champion:
    """Registers a model, the best variant of this time, as challenger and decides whether it becomes champion.

    One process of a machine decides at a time. Should the champion change meanwhile all the same (on another machine,
    by hand), the challenger is compared with the new one. What an outage kept from MLflow is logged now.

    Raises:
        TrackingUnavailable: If MLflow is away; nothing is decided then.
        NoChampion: If the challenger is turned down or has to be approved, and there is no other champion.
        AlreadyRunning: If other processes keep changing the champion.
    """

    def record(decision: Decision, present: PresentChampion | None, difference: "Interval | None") -> PromotionRecord:
        """As if the challenger were champion now."""
        variant, metric = bundle.card.variant, task.gate.metric
        return PromotionRecord(
            task=task.name,
            variant=variant,
            version=challenger.version,
            run_id=challenger.run_id,
            challenger_variant=variant,
            challenger_version=challenger.version,
            promoted=decision.accepted,
            reason=decision.reason,
            metric=metric,
            challenger_value=evaluation.metrics.get(metric),
            previous_version=None if present is None else present.version.version,
            previous_value=present.evaluation.metrics.get(metric) if present and present.evaluation else None,
            difference_low=None if difference is None else difference.low,
            difference_high=None if difference is None else difference.high,
            patches_version=evaluation.patches_version,
            splits_version=evaluation.splits_version,
            is_synthetic=evaluation.is_synthetic,
        )

    run_id = tracker.publish(workspace, bundle)
    tracker.log_evaluation(run_id, evaluation)
    about = (
        f"{task.title}. Learnt from {task.dataset.title}. The version with the alias `{CHAMPION}` is in use; "
        f"`{CHALLENGER}` is the best of the last run. What decides is {readable(task.gate.metric)} on the test split."
    )
    recipe = json.dumps(dict(evaluation.recipe), sort_keys=True)
    names = (task.gate.metric, *task.gate.trivial_values(evaluation.metrics))
    described = {
        "patches_version": evaluation.patches_version,
        "splits_version": evaluation.splits_version,
        "evaluation_recipe": hashlib.blake2b(recipe.encode(), digest_size=8).hexdigest(),
        "is_synthetic": str(evaluation.is_synthetic).lower(),
        **{_METRIC_TAG + name: repr(evaluation.metrics[name]) for name in names if name in evaluation.metrics},
    }
    challenger = tracker.register(run_id, bundle, described, about)
    with tracker.deciding(task.name):
        tracker.set_alias(task.name, CHALLENGER, challenger.version)
        # What a person decided while this process waited for its turn counts.
        challenger = tracker.version_at(task.name, CHALLENGER) or challenger
        for _ in range(_ATTEMPTS):
            version = tracker.version_at(task.name, CHAMPION)
            if version is not None and version.version == challenger.version:
                if SINCE not in version.tags:  # the process that made it champion was killed
                    tracker.tag_version(version, {SINCE: datetime.now(UTC).isoformat()})
                kept = Decision(False, f"kept: the best variant is the champion already, version {version.version}")
                return Champion(bundle, record(kept, PresentChampion(version, bundle, evaluation), None))
            present = None
            if version is not None:
                present = _evaluate_present(task, version, bundle, evaluation, store, splits, tracker)
            decision, difference = _decide(task, evaluation, challenger, present)
            waits = decision.accepted and task.gate.approval == "manual"
            if waits:
                command = f"cloud-assets models approve {task.name}"
                decision = Decision(False, f"waits for approval ({command}): {decision.reason}")
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
        interval = model_interval(evaluation, task.gate.metric, task.gate.confidence)
        remedy = task.gate.remedy(evaluation.metrics, interval) or "."
        raise NoChampion(
            f"{task.name} has no champion yet, and {bundle.card.variant}, version {challenger.version}, does not "
            f"become one: {decision.reason}{remedy}"
        )
    decided = record(decision, present, difference)
    if decision.accepted or present is None:
        return Champion(bundle, decided)
    remaining = present.bundle
    if remaining is None:
        raise NoChampion(
            f"the champion of {task.name}, version {present.version.version}, cannot be loaded ({present.problem}), "
            "and the challenger does not take its place either. Train a better one, or return to an older version: "
            f"cloud-assets models rollback {task.name}"
        )
    changes = {
        "variant": remaining.card.variant,
        "version": present.version.version,
        "run_id": present.version.run_id,
        "waits_for_approval": waits,
    }
    return Champion(remaining, decided.model_copy(update=changes))


def make_champion(tracker: "Tracker", version: "RegisteredVersion", expected: "RegisteredVersion | None") -> bool:
    """Points the alias to a version; False if it points elsewhere by now than when that was decided."""
    now = tracker.version_at(version.task, CHAMPION)
    if (now and now.version) != (expected and expected.version):
        return False
    tracker.set_alias(version.task, CHAMPION, version.version)
    tracker.tag_version(version, {SINCE: datetime.now(UTC).isoformat()})
    return True


def approve(tracker: "Tracker", task: str, version: int | None = None) -> "RegisteredVersion":
    """Makes the waiting challenger champion, or any version that is named.

    Raises:
        NoChampion: If nothing waits, or there is no such version.
        InvalidModel: If the version cannot be loaded any more.
        AlreadyRunning: If the champion is another than the one that the challenger was compared with.
    """
    with tracker.deciding(task):
        chosen, present = _chosen(tracker, task, version), tracker.version_at(task, CHAMPION)
        before = "" if present is None else str(present.version)
        if version is None and chosen.tags.get("compared_with", "") != before:
            raise AlreadyRunning(
                f"version {chosen.version} of {task} was compared with another champion than the present one. "
                f"Materialise {task}/champion again, or name the version: cloud-assets models approve {task} --version "
                f"{chosen.version}"
            )
        tracker.download(chosen)
        said = f"approved by hand; before: {chosen.tags.get('decision', 'undecided')}"
        _move(tracker, chosen, present, {APPROVAL: APPROVED, "decision": said, "decided": now()})
    return chosen


def reject(tracker: "Tracker", task: str, reason: str, version: int | None = None) -> "RegisteredVersion":
    """Turns the waiting challenger down, or any version that is not champion, for good; the reason is noted with it.

    Raises:
        NoChampion: If nothing waits, there is no such version, or it is champion.
    """
    with tracker.deciding(task):
        chosen, present = _chosen(tracker, task, version), tracker.version_at(task, CHAMPION)
        if present is not None and present.version == chosen.version:
            raise NoChampion(
                f"version {chosen.version} is the champion of {task}. Take it back with: cloud-assets models rollback "
                f"{task}"
            )
        said = {APPROVAL: REJECTED, "decision": f"rejected by hand: {reason}", "decided": now()}
        tracker.tag_version(chosen, said)
    return chosen


def rollback(
    tracker: "Tracker", task: str, reason: str, version: int | None = None
) -> "tuple[RegisteredVersion | None, RegisteredVersion]":
    """Makes an earlier champion champion again. The version that is taken back is not promoted again by itself.

    Without a version to return to, that is the champion before the present one.

    Returns:
        The version that was taken back, with the reason (None if it had been deleted); and the champion now.

    Raises:
        NoChampion: If there is no earlier champion.
        InvalidModel: If the earlier champion cannot be loaded any more; nothing is changed then.
        AlreadyRunning: If another machine changes the champion at this moment.
    """
    with tracker.deciding(task):
        present = tracker.version_at(task, CHAMPION)
        target = _earlier(tracker, task, present) if version is None else _chosen(tracker, task, version)
        if present is not None and target.version == present.version:
            raise NoChampion(f"version {target.version} is the champion of {task} already: name another.")
        tracker.download(target)
        if present is not None:
            said = f"{now()}, to version {target.version}: {reason}"
            tracker.tag_version(present, {ROLLED_BACK: said, "decision": f"rolled back {said}"})
        _move(tracker, target, present, {})
    return present, target


def _earlier(tracker: "Tracker", task: str, present: "RegisteredVersion | None") -> "RegisteredVersion":
    """The champion before the present one: the last that became one before it and was not taken back."""
    until = "~" if present is None else present.tags.get(SINCE, "~")
    there = "" if present is None else f" before version {present.version}"
    former = [one for one in tracker.versions(task) if one.tags.get(SINCE, "~") < until and ROLLED_BACK not in one.tags]
    if not former:
        raise NoChampion(
            f"{task} had no champion{there} that could be returned to. Name a version with --to; cloud-assets models "
            f"list {task} shows them."
        )
    return max(former, key=lambda version: version.tags[SINCE])


def _chosen(tracker: "Tracker", task: str, number: int | None) -> "RegisteredVersion":
    """The version of that number, or the challenger that waits for approval."""
    if number is None:
        challenger = tracker.version_at(task, CHALLENGER)
        if challenger is None or challenger.tags.get(APPROVAL) != WAITING:
            raise NoChampion(
                f"no challenger of {task} waits for approval. Name a version with --version; cloud-assets models list "
                f"{task} shows them."
            )
        return challenger
    found = {version.version: version for version in tracker.versions(task)}
    if number not in found:
        known = ", ".join(map(str, found)) or "no versions"
        raise NoChampion(f"the registered model {task} has no version {number}. It has: {known}.")
    return found[number]


def _move(
    tracker: "Tracker", version: "RegisteredVersion", present: "RegisteredVersion | None", tags: dict[str, str | None]
) -> None:
    """Notes why, forgets that the version was once taken back, and makes it champion."""
    tracker.tag_version(version, {**tags, **({ROLLED_BACK: None} if ROLLED_BACK in version.tags else {})})
    if not make_champion(tracker, version, present):
        raise AlreadyRunning(f"the champion of {version.task} was changed at this moment. Look, then run this again.")
