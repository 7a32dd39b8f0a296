"""Model registry: one registered model a task, with aliases for the challenger and the champion."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cloud_assets.errors import AlreadyRunning, InvalidModel
from cloud_assets.inference.bundle import CARD_FILE, ModelBundle
from cloud_assets.tracking.runs import MODEL_TAG
from cloud_assets.tracking.store import Store, unless

_TAG_LENGTH = 4000


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    task: str
    """Name of the registered model."""
    version: int
    """Its number, from 1."""
    run_id: str
    """The training run that it comes from."""
    tags: Mapping[str, str]
    """What was noted about it."""


class Registry(Store):
    """The registered models of a store."""

    def register(self, run_id: str, bundle: ModelBundle, tags: Mapping[str, str]) -> RegisteredVersion:
        """Registers the model of a published run under its task's name, once; tags are noted each time.

        Returns:
            The new version, or the one that holds the same model already.
        """
        card = bundle.card
        with self.reached() as client:
            unless("RESOURCE_ALREADY_EXISTS", lambda: client.create_registered_model(card.task))
            same = {"model_version": bundle.version, "variant": card.variant}
            for found in client.search_model_versions(f"name = '{card.task}'"):
                if same.items() <= found.tags.items():
                    version = found
                    break
            else:
                model_id = client.get_run(run_id).data.tags[MODEL_TAG]
                version = client.create_model_version(
                    card.task, f"models:/{model_id}", run_id, tags=same, model_id=model_id
                )
            for name, value in tags.items():
                client.set_model_version_tag(card.task, version.version, name, value)
            return _registered(client.get_model_version(card.task, version.version))

    def versions(self, task: str) -> list[RegisteredVersion]:
        """All versions of a task's registered model, newest first; none if it was never registered."""
        with self.reached() as client:
            found = client.search_model_versions(f"name = '{task}'")
            return sorted((_registered(version) for version in found), key=lambda version: -version.version)

    def set_alias(self, task: str, alias: str, version: int) -> None:
        """Points an alias (``challenger``, ``champion``) to a version of a task's registered model."""
        with self.reached() as client:
            client.set_registered_model_alias(task, alias, str(version))

    def version_at(self, task: str, alias: str) -> RegisteredVersion | None:
        """The version that an alias points to; None if there is no such alias, or that version was deleted."""
        with self.reached() as client:
            # SQLite stores say "invalid" where servers say "absent".
            found = unless(
                "INVALID_PARAMETER_VALUE",
                lambda: unless("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version_by_alias(task, alias)),
            )
            return None if found is None else _registered(found)

    def tag_version(self, version: RegisteredVersion, tags: Mapping[str, str | None]) -> None:
        """Notes something about a registered version; what is None is forgotten."""
        with self.reached() as client:
            for name, value in tags.items():
                number = str(version.version)
                if value is None:
                    client.delete_model_version_tag(version.task, number, name)
                else:
                    client.set_model_version_tag(version.task, number, name, value[:_TAG_LENGTH])

    @contextmanager
    def deciding(self, task: str, seconds: float = 3600.0) -> Iterator[None]:
        """Holds all other processes of this machine back from changing a task's champion.

        Raises:
            AlreadyRunning: If another process takes longer than that.
            TrackingUnavailable: If the store's folder cannot be written to.
        """
        folder = self.store_folder or Path(tempfile.gettempdir()) / f"cloud-assets-{os.getuid()}"
        server = "" if self.store_folder else f"-{hashlib.blake2b(self.uri.encode(), digest_size=6).hexdigest()}"
        with self.reached():
            folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{task}{server}.decision.lock")
        try:
            lock.acquire(timeout=seconds)
        except Timeout as error:
            raise AlreadyRunning(
                f"Another process has been deciding on the champion of {task} for {seconds:.0f} s. Wait until it is "
                "done, or end it, and run this again: nothing was changed."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def download(self, version: RegisteredVersion) -> ModelBundle:
        """Gets a registered model; :class:`InvalidModel` if it is none that this installation can read."""
        with self.reached(), tempfile.TemporaryDirectory() as temporary:
            source = f"models:/{version.task}/{version.version}"
            cards = sorted(self.download_model(source, Path(temporary)).rglob(CARD_FILE))
            if not cards:
                raise InvalidModel(f"{source} holds no model card, so it was not registered by Cloud Assets.")
            return ModelBundle.open(cards[0].parent)


def _registered(version: Any) -> RegisteredVersion:
    return RegisteredVersion(version.name, int(version.version), version.run_id, dict(version.tags))
