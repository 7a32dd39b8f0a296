"""Where a study's trials are kept: a journal file that survives any kill, or any storage that Optuna knows by URL."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import AlreadyRunning, InvalidRecipe, SourceUnreachable
from cloud_assets.learning.search_space import SearchSpace
from cloud_assets.learning.study_recipe import StudyRecipe
from cloud_assets.learning.training_run import TRAINING_VERSION, beyond_the_recipe

if TYPE_CHECKING:
    import optuna
    from pydantic import BaseModel

_IDENTITY = "cloud_assets_identity"
_LOCK_SECONDS = 5.0


def study_identity(
    recipe: StudyRecipe, space: SearchSpace, base: "BaseModel", task: str, variant: str, patches: str, splits: str
) -> dict[str, Any]:
    """What the trials of one study have in common; trials that differ in any of it cannot be compared.

    Args:
        recipe: How is searched: what is optimised counts, how many trials and by how many workers does not.
        space: What is varied.
        base: The recipe that trials start from, of which the varied fields do not count.
        task: Name of the task.
        variant: Name of the variant.
        patches: Data version of the patches.
        splits: Data version of the splits.
    """
    rest = base.model_dump(mode="json")
    for path in space.root:
        *parents, name = path.split(".")
        place: Any = rest
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(name, None)
    named = [str(TRAINING_VERSION), *beyond_the_recipe(base.model_dump())]
    fixed = json.dumps([type(base).__name__, recipe.trial_epochs, recipe.trial_minutes, rest, named], sort_keys=True)
    return {
        "task": task,
        "variant": variant,
        "metric": recipe.metric,
        "mode": recipe.mode,
        "patches_version": patches,
        "splits_version": splits,
        "search_space": space.digest,
        "recipe": hashlib.blake2b(fixed.encode(), digest_size=16).hexdigest(),
    }


def study_name(identity: dict[str, Any]) -> str:
    """A name of its own for each task, variant, data version and search space.

    Args:
        identity: See :func:`study_identity`.
    """
    digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{identity['task']}-{identity['variant']}-{digest}"


def journal_file(workspace: Path) -> Path:
    """The journal of a workspace; ``optuna-dashboard`` opens it."""
    return workspace / "study.journal"


@contextmanager
def opened_study(
    name: str, identity: dict[str, Any], mode: str, url: str | None, workspace: Path
) -> Iterator["optuna.Study"]:
    """Opens or makes a study and keeps every other process of this workspace out of it.

    Args:
        name: The study's name in the storage.
        identity: What an existing study of that name must agree with.
        mode: ``max`` or ``min``.
        url: Optuna storage URL; None for the workspace's journal.
        workspace: Folder of the journal and of the lock.

    Yields:
        The study, without sampler and pruner of ours.

    Raises:
        AlreadyRunning: If another process has it open.
        InvalidRecipe: If the study exists and is about something else.
        SourceUnreachable: If the storage cannot be opened.
    """
    import optuna
    from filelock import FileLock, Timeout

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    workspace.mkdir(parents=True, exist_ok=True)
    # The operating system takes this lock back from a killed process, unlike a file that merely exists.
    lock = FileLock(workspace / "study.lock", timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise AlreadyRunning(
            f"Another process is running a study in {workspace}. Wait for it, or end it; its finished trials are kept."
        ) from None
    try:
        storage = _storage(url, workspace)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if mode == "max" else "minimize",
            load_if_exists=True,
        )
        _check_identity(study, name, identity)
        yield study
    finally:
        lock.release()


def _storage(url: str | None, workspace: Path) -> "optuna.storages.BaseStorage":
    import optuna
    from optuna.storages.journal import JournalFileBackend

    try:
        if url is not None:
            return optuna.storages.RDBStorage(url)
        path = journal_file(workspace)
        mend_journal(path)
        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # drivers and servers each raise types of their own
        shown = re.sub(r"//[^@/]*@", "//…@", url) if url else str(journal_file(workspace))
        raise SourceUnreachable(
            f"the study's storage {shown} cannot be opened ({type(error).__name__}: {str(error)[:300]}). "
            "Check the URL, its server and its driver, or leave storage unset for a local journal."
        ) from error


def mend_journal(path: Path) -> None:
    """Clears away what a killed process may have left: half of a last line, and the journal's own lock.

    To be called while the study's lock is held. Half a line would make the line after it unreadable, and with it the
    whole journal.

    Args:
        path: The journal; it need not exist.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if not path.exists():
        return
    with path.open("rb+") as journal:
        content = journal.read()
        if content and not content.endswith(b"\n"):
            journal.truncate(content.rfind(b"\n") + 1)


def _check_identity(study: "optuna.Study", name: str, identity: dict[str, Any]) -> None:
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        study.set_user_attr(_IDENTITY, identity)
        return
    differing = [what for what in identity if known.get(what) != identity[what]]
    if differing:
        described = "; ".join(f"{what.replace('_', ' ')} {known.get(what)}, now {identity[what]}" for what in differing)
        raise InvalidRecipe(
            f"there is already a study {name!r} about something else ({described}): their trials cannot be compared. "
            "Choose another name, leave the name unset, or delete the old study."
        )
