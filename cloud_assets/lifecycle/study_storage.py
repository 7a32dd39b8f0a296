"""Where a hyper-parameter study keeps its trials: SQLite in the workspace, or any database that Optuna knows by URL."""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cloud_assets.errors import AlreadyRunning, InvalidRecipe, SourceUnreachable
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.search_space import SearchSpace
from cloud_assets.learning.study_recipe import StudyRecipe
from cloud_assets.learning.training_run import TRAINING_VERSION, TrainingRun, beyond_the_recipe

if TYPE_CHECKING:
    import optuna

HEARTBEAT_SECONDS = 30
_GRACE_HEARTBEATS = 4
"""A running trial of a shared storage that is silent for so many heartbeats is run again."""
_SQLITE_SECONDS = 120
"""How long a process waits for the others' writes."""
_LOCK_SECONDS = 5.0
_IDENTITY = "cloud_assets_identity"


def grace_seconds() -> int:
    """How long a running trial may be silent."""
    return _GRACE_HEARTBEATS * HEARTBEAT_SECONDS


def study_identity(recipe: StudyRecipe, space: SearchSpace, base: Recipe, run: TrainingRun) -> dict[str, str]:
    """What the trials of one study have in common; trials that differ in any of it cannot be compared.

    Of the recipe that trials start from, the searched fields do not count; of how is searched, what is optimised
    counts, how many trials and by how many workers does not.
    """
    rest = base.model_dump(mode="json")
    for path in space.root:
        *parents, name = path.split(".")
        place: Any = rest
        for parent in parents:
            place = place.get(parent, {})
        place.pop(name, None)
    named = [str(TRAINING_VERSION), *beyond_the_recipe(base.model_dump())]
    fixed = json.dumps([type(base).__name__, recipe.trial_epochs, recipe.trial_minutes, rest, named], sort_keys=True)
    return {
        "task": run.task,
        "variant": run.variant,
        "metric": recipe.metric,
        "mode": recipe.mode,
        "patches_version": run.store.data_version,
        "splits_version": run.splits.data_version,
        "search_space": space.digest,
        "recipe": hashlib.blake2b(fixed.encode(), digest_size=16).hexdigest(),
    }


def study_name(identity: Mapping[str, str]) -> str:
    """A name of its own for each task, variant, data version, recipe and search space."""
    digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{identity['task']}-{identity['variant']}-{digest}"


def storage_url(recipe: StudyRecipe, workspace: Path) -> str:
    """Where the trials are kept; ``optuna-dashboard`` opens it."""
    # Signs that mean something in a URL are quoted.
    return recipe.storage or f"sqlite:///{quote(str(workspace.resolve() / 'study.db'), safe='/:')}"


def _storage(url: str, recipe: StudyRecipe) -> "optuna.storages.RDBStorage":
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # reasons of failures are kept with the trials
    is_sqlite = url.startswith("sqlite")
    with without_notices():
        storage = optuna.storages.RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": _SQLITE_SECONDS}} if is_sqlite else None,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=grace_seconds(),
            heartbeat_stale_trial_callback=retry_callback(recipe),
        )
    if is_sqlite:
        # SQLite knows no SELECT FOR UPDATE: without these two workers may take the same queued trial, or lock each
        # other out (optuna/optuna#4034).
        sqlalchemy.event.listen(storage.engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        sqlalchemy.event.listen(storage.engine, "begin", lambda began: began.exec_driver_sql("BEGIN IMMEDIATE"))
        storage.engine.dispose()
    return storage


kept_storage = cache(_storage)
"""For worker processes, which run many trials."""


def opened_study(
    name: str, identity: Mapping[str, str], url: str, recipe: StudyRecipe
) -> "tuple[optuna.Study, optuna.storages.RDBStorage]":
    """Opens or makes a study, and makes sure that it is about the same."""
    import optuna

    try:
        storage = _storage(url, recipe)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if recipe.mode == "max" else "minimize",
            load_if_exists=True,
        )
    except Exception as error:  # drivers and servers each raise types of their own
        shown = re.sub(r"//[^@/]*@", "//…@", url)
        raise SourceUnreachable(
            f"the study's storage {shown} cannot be opened ({type(error).__name__}: {str(error)[:300]}). "
            "Check the URL, its server and its driver, or leave storage unset for a file in the workspace."
        ) from error
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        study.set_user_attr(_IDENTITY, dict(identity))
    elif known != identity:
        described = "; ".join(
            f"{what.replace('_', ' ')} {known.get(what)}, now {identity[what]}"
            for what in identity
            if known.get(what) != identity[what]
        )
        raise InvalidRecipe(
            f"there is already a study {name!r} about something else ({described}): their trials cannot be compared. "
            "Choose another name, leave the name unset, or delete the old study."
        )
    return study, storage


@contextmanager
def without_notices() -> Iterator[None]:
    """Without Optuna's notices that heartbeats are experimental."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextmanager
def locked(workspace: Path) -> Iterator[None]:
    """Keeps every other process out of a workspace.

    Raises:
        AlreadyRunning: If another process is in it.
    """
    from filelock import FileLock, Timeout

    workspace.mkdir(parents=True, exist_ok=True)
    try:
        # The operating system takes this lock back from a killed process, unlike a file that merely exists.
        with FileLock(workspace / "study.lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout:
        raise AlreadyRunning(
            f"Another process is running a study in {workspace}. Wait for it, or end it; its finished trials are kept."
        ) from None


def retry_callback(recipe: StudyRecipe) -> "optuna.storages.RetryHeartbeatStaleTrialCallback":
    """Queues an interrupted trial again, unless that was done as often as allowed."""
    import optuna

    return optuna.storages.RetryHeartbeatStaleTrialCallback(recipe.retries, inherit_intermediate_values=True)
