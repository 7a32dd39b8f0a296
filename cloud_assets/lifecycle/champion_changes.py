"""Changes of champions by hand: approve, reject, roll back. Each is noted with the version and takes its turn.

Only the registry is changed, and that at once. The champion's asset follows when it is materialised again.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cloud_assets.errors import AlreadyRunning, NoChampion
from cloud_assets.lifecycle.promotion import (
    APPROVAL,
    APPROVED,
    CHALLENGER,
    CHAMPION,
    REJECTED,
    ROLLED_BACK,
    SINCE,
    WAITING,
    make_champion,
)

if TYPE_CHECKING:
    from cloud_assets.tracking import RegisteredVersion, Tracker


def approve(tracker: "Tracker", task: str, version: int | None = None) -> "RegisteredVersion":
    """Makes the waiting challenger champion, or any version that is named.

    Raises:
        NoChampion: If nothing waits, or there is no such version.
        InvalidModel: If the version cannot be loaded any more.
        AlreadyRunning: If the champion is another than the one that the challenger was compared with.
    """
    with tracker.deciding(task):
        chosen = _waiting(tracker, task) if version is None else _version(tracker, task, version)
        present = tracker.version_at(task, CHAMPION)
        if version is None and chosen.tags.get("compared_with", "") != (
            "" if present is None else str(present.version)
        ):
            raise AlreadyRunning(
                f"version {chosen.version} of {task} was compared with another champion than the present one. "
                f"Materialise {task}/champion again, or name the version: cloud-assets models approve {task} --version "
                f"{chosen.version}"
            )
        tracker.download(chosen)
        said = {APPROVAL: APPROVED, "decision": f"approved by hand; before: {chosen.tags.get('decision', 'undecided')}"}
        tracker.tag_version(chosen, {**said, "decided": _now(), **_forgotten(chosen, ROLLED_BACK)})
        _move(tracker, chosen, present)
    return chosen


def reject(tracker: "Tracker", task: str, reason: str, version: int | None = None) -> "RegisteredVersion":
    """Turns the waiting challenger down, or any version that is not champion, for good; the reason is noted with it.

    Raises:
        NoChampion: If nothing waits, there is no such version, or it is champion.
    """
    with tracker.deciding(task):
        chosen = _waiting(tracker, task) if version is None else _version(tracker, task, version)
        present = tracker.version_at(task, CHAMPION)
        if present is not None and present.version == chosen.version:
            raise NoChampion(
                f"version {chosen.version} is the champion of {task}. Take it back with: cloud-assets models rollback "
                f"{task}"
            )
        said = {APPROVAL: REJECTED, "decision": f"rejected by hand: {reason}", "decided": _now()}
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
        target = _earlier(tracker, task, present) if version is None else _version(tracker, task, version)
        if present is not None and target.version == present.version:
            raise NoChampion(f"version {target.version} is the champion of {task} already.")
        tracker.download(target)
        if present is not None:
            said = f"{_now()}, to version {target.version}: {reason}"
            tracker.tag_version(present, {ROLLED_BACK: said, "decision": f"rolled back {said}"})
        tracker.tag_version(target, _forgotten(target, ROLLED_BACK))
        _move(tracker, target, present)
    return present, target


def _earlier(tracker: "Tracker", task: str, present: "RegisteredVersion | None") -> "RegisteredVersion":
    """The champion before the present one: the last that became one before it and was not taken back."""
    until = "~" if present is None else present.tags.get(SINCE, "~")
    there = "" if present is None else f" before version {present.version}"
    former = [
        version
        for version in tracker.versions(task)
        if version.tags.get(SINCE, "~") < until
        and ROLLED_BACK not in version.tags
        and (present is None or version.version != present.version)
    ]
    if not former:
        raise NoChampion(
            f"{task} had no champion{there} that could be returned to. Name a version with --to; cloud-assets models "
            f"list {task} shows them."
        )
    return max(former, key=lambda version: version.tags[SINCE])


def _waiting(tracker: "Tracker", task: str) -> "RegisteredVersion":
    challenger = tracker.version_at(task, CHALLENGER)
    if challenger is None or challenger.tags.get(APPROVAL) != WAITING:
        raise NoChampion(
            f"no challenger of {task} waits for approval. Name a version with --version; cloud-assets models list "
            f"{task} shows them."
        )
    return challenger


def _version(tracker: "Tracker", task: str, number: int) -> "RegisteredVersion":
    found = tracker.versions(task)
    for version in found:
        if version.version == number:
            return version
    known = ", ".join(str(version.version) for version in found) or "no versions"
    raise NoChampion(f"the registered model {task} has no version {number}. It has: {known}.")


def _move(tracker: "Tracker", version: "RegisteredVersion", present: "RegisteredVersion | None") -> None:
    if not make_champion(tracker, version, present):
        raise AlreadyRunning(
            f"the champion of {version.task} was changed at this very moment. Look, then run this again."
        )


def _forgotten(version: "RegisteredVersion", tag: str) -> dict[str, str | None]:
    return {tag: None} if tag in version.tags else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
