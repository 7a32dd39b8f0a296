"""MLflow runs and the model registry.

There is one run a training, resumed with it and completed afterwards if MLflow was unavailable meanwhile; and one
registered model a task, with aliases for the challenger and the champion.
"""

import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import InvalidModel
from cloud_assets.inference.bundle import CARD_FILE, ModelBundle
from cloud_assets.storage import atomic_file, locked
from cloud_assets.tracking.store import Client, Store, log_metrics, log_parameters, log_series, unless

if TYPE_CHECKING:
    from cloud_assets.reports.evaluation import Evaluation

RUN_FILE = "mlflow_run.json"
"""In a training's workspace: which run belongs to it, so that a resumed training goes on in the same run."""
MODEL_TAG = "model_id"
"""Tag of a run: the logged model that it produced."""
EVALUATION_TAG = "evaluation_version"
"""Tag of a run: the evaluation that was logged with it."""

_PARENT_TAG = "mlflow.parentRunId"
_CREATION_TAG = "creation"
_TAG_LENGTH = 4000
_PATIENCE_SECONDS = 3600


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    task: str
    """Name of the registered model."""
    version: int
    """From 1."""
    run_id: str
    """The training run that it comes from."""
    tags: Mapping[str, str]


class Tracker(Store):
    """The runs and the registered models behind one URI.

    Args:
        uri: Tracking URI; default :func:`default_uri`.
    """

    def begin(
        self, workspace: Path, task: str, variant: str, recipe: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """Opens the run of a training, the one noted in its workspace or else a new one, and returns its id.

        The recipe is logged as parameters ``optimisation.batch_size`` and so on.
        """
        with self.reached() as client:
            run_id = self._known_run(client, workspace)
            if run_id is not None:
                client.update_run(run_id, status="RUNNING")
                for name, value in tags.items():
                    client.set_tag(run_id, name, value)
            else:
                # A process that is killed between making a run and noting its id finds it again by this token.
                experiment, token = self.experiment(client, task), uuid.uuid4().hex
                self._write_down(workspace, {"experiment": experiment, "token": token})
                made = client.create_run(experiment, tags={**tags, _CREATION_TAG: token}, run_name=variant)
                run_id = str(made.info.run_id)
            self._write_down(workspace, {"run_id": run_id})
            if not client.get_run(run_id).data.params:
                log_parameters(client, run_id, flattened(recipe))
            return run_id

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of an epoch, counted from 0."""
        with self.reached() as client:
            log_metrics(client, run_id, metrics, epoch)

    def log_picture(self, run_id: str, epoch: int, name: str, png: bytes) -> None:
        """Keeps a PNG picture that was made after an epoch (from 0), as ``pictures/<name>/epoch_0007.png``."""
        with self.reached() as client, tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / f"epoch_{epoch:04d}.png"
            path.write_bytes(png)
            client.log_artifact(run_id, str(path), f"pictures/{name}")

    def end(self, run_id: str, status: str) -> None:
        """Closes a run that did not get through, as ``FAILED`` or ``KILLED``."""
        with self.reached() as client:
            client.set_terminated(run_id, status)

    def end_unfinished(self, workspace: Path) -> None:
        """Closes the run noted in a workspace as ``KILLED`` if it has not ended."""
        with self.reached() as client:
            run_id = self._known_run(client, workspace)
            if run_id is not None and client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, "KILLED")

    def publish(self, workspace: Path, bundle: ModelBundle) -> str:
        """Sees to it that all about a finished training is in MLflow: parameters, every epoch, the model.

        Does nothing for what is there already, so it also mends a training that ran while the store was away.

        Returns:
            The id of the run, which is finished.
        """
        card, record = bundle.card, bundle.card.training
        with self.reached() as client:
            known = self._known_run(client, workspace)
            if known is not None and client.get_run(known).info.status == "FINISHED":
                return known
            tags = {
                "task": card.task,
                "variant": card.variant,
                "fingerprint": record.fingerprint,
                "patches_version": record.patches_version,
                "splits_version": record.splits_version,
                "model_version": bundle.version,
                "device": record.device,
                "stopped_by": record.stopped_by or "",
                "synthetic_training_data": str(card.is_synthetic_training_data).lower(),
            }
            run_id = self.begin(workspace, card.task, card.variant, record.recipe, tags)
            _log_missing_epochs(client, run_id, record.history)
            log_metrics(client, run_id, {f"best_{name}": value for name, value in card.metrics.items()})
            client.set_tag(run_id, MODEL_TAG, self.log_model(client, run_id, bundle))
            return run_id

    def log_evaluation(self, run_id: str, evaluation: "Evaluation") -> None:
        """Logs an evaluation to the run of its training, once: test metrics, tables, figures, report."""
        version = evaluation.data_version
        with self.reached() as client, tempfile.TemporaryDirectory() as temporary:
            if client.get_run(run_id).data.tags.get(EVALUATION_TAG) == version:
                return
            folder = Path(temporary) / "evaluation"
            evaluation.save(folder)
            log_metrics(client, run_id, {f"test_{name}": value for name, value in evaluation.metrics.items()})
            client.log_artifacts(run_id, str(folder), "evaluation")
            client.set_tag(run_id, EVALUATION_TAG, version)

    def log_nested(
        self,
        parent: str,
        name: str,
        parameters: Mapping[str, Any],
        series: Mapping[str, Mapping[int, float]],
        tags: Mapping[str, str],
        status: str,
    ) -> None:
        """Logs a finished piece of a run's work as a run of its own below it, once for each name.

        The metrics of ``series`` are given by step; ``status`` is ``FINISHED``, ``FAILED`` or ``KILLED``.
        """
        with self.reached() as client:
            experiment = client.get_run(parent).info.experiment_id
            known = client.search_runs(
                [experiment], f"tags.`{_PARENT_TAG}` = '{parent}' and attributes.run_name = '{name}'", max_results=1
            )
            # A piece that was being logged when the process was killed is still open: it is filled up.
            if known and known[0].info.status != "RUNNING":
                return
            made = known or [client.create_run(experiment, tags={_PARENT_TAG: parent, **tags}, run_name=name)]
            run_id = made[0].info.run_id
            log_series(client, run_id, series)
            log_parameters(client, run_id, {path: str(value) for path, value in parameters.items()})
            client.set_terminated(run_id, status)

    def log_folder(self, run_id: str, folder: Path, name: str, metrics: Mapping[str, float]) -> None:
        """Logs some metrics and the files of a folder, as artifact ``name``, to a run, which is then finished."""
        with self.reached() as client:
            log_metrics(client, run_id, metrics)
            client.log_artifacts(run_id, str(folder), name)
            client.set_terminated(run_id)

    def note(self, run_id: str, name: str, content: Mapping[str, Any]) -> None:
        """Keeps a small JSON object as an artifact of a run; one of that name that is there already stays."""
        with self.reached() as client:
            if not any(file.path == name for file in client.list_artifacts(run_id)):
                client.log_dict(run_id, dict(content), name)

    def noted(self, run_id: str, name: str) -> dict[str, Any] | None:
        """What :meth:`note` kept; None if it kept nothing."""
        with self.reached() as client, tempfile.TemporaryDirectory() as temporary:
            if not any(file.path == name for file in client.list_artifacts(run_id)):
                return None
            path = Path(client.download_artifacts(run_id, name, temporary))
            return dict(json.loads(path.read_text(encoding="utf-8")))

    def known_run(self, workspace: Path) -> str | None:
        """The id of the run that belongs to a workspace, None if this store has none."""
        with self.reached() as client:
            return self._known_run(client, workspace)

    def link(self, run_id: str) -> str:
        """Where to look at a run: its address, or for a local store the command that shows it."""
        if not self.uri.startswith("http"):
            return f"run {run_id}: {self.how_to_look()}"
        with self.reached() as client:
            experiment = client.get_run(run_id).info.experiment_id
        return f"{self.uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"

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

    def deciding(self, task: str) -> AbstractContextManager[None]:
        """Holds all other processes of this machine back from changing a task's champion.

        Raises:
            AlreadyRunning: If another process takes longer than an hour.
            TrackingUnavailable: If the store's folder cannot be written to.
        """
        folder = self.store_folder or Path(tempfile.gettempdir()) / f"cloud-assets-{os.getuid()}"
        server = "" if self.store_folder else f"-{hashlib.blake2b(self.uri.encode(), digest_size=6).hexdigest()}"
        with self.reached():
            folder.mkdir(parents=True, exist_ok=True)
        said = (
            f"Another process has been deciding on the champion of {task} for {_PATIENCE_SECONDS} s. Wait until it is "
            "done, or end it, and run this again: nothing was changed."
        )
        return locked(folder / f"{task}{server}.decision.lock", said, _PATIENCE_SECONDS)

    def download(self, version: RegisteredVersion) -> ModelBundle:
        """Gets a registered model; :class:`InvalidModel` if it is none that this installation can read."""
        with self.reached(), tempfile.TemporaryDirectory() as temporary:
            source = f"models:/{version.task}/{version.version}"
            cards = sorted(self.download_model(source, Path(temporary)).rglob(CARD_FILE))
            if not cards:
                raise InvalidModel(f"{source} holds no model card, so it was not registered by Cloud Assets.")
            return ModelBundle.open(cards[0].parent)

    def _known_run(self, client: Client, workspace: Path) -> str | None:
        path = workspace / RUN_FILE
        if not path.exists():
            return None
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["tracking_uri"] != self.uri:
            return None
        if "run_id" not in known:
            wanted = f"tags.{_CREATION_TAG} = '{known['token']}'"
            found = client.search_runs([known["experiment"]], wanted, max_results=1)
            return str(found[0].info.run_id) if found else None
        run = unless("RESOURCE_DOES_NOT_EXIST", lambda: client.get_run(known["run_id"]))
        return run.info.run_id if run is not None and run.info.lifecycle_stage == "active" else None

    def _write_down(self, workspace: Path, known: Mapping[str, str]) -> None:
        with atomic_file(workspace / RUN_FILE) as path:
            path.write_text(json.dumps({"tracking_uri": self.uri, **known}), encoding="utf-8")


def flattened(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as one level: ``{"optimisation": {"seed": 0}}`` becomes ``{"optimisation.seed": "0"}``."""
    flat: dict[str, str] = {}
    for name, value in recipe.items():
        nested = isinstance(value, Mapping)
        flat |= flattened(value, f"{prefix}{name}.") if nested else {prefix + name: str(value)}
    return flat


def _log_missing_epochs(client: Client, run_id: str, history: Sequence[Mapping[str, float]]) -> None:
    """Logs what an epoch's own call could not: each metric at the epochs that the run lacks."""
    known: dict[str, set[int]] = {}
    for epoch, metrics in enumerate(history):
        for name in metrics.keys() - known.keys():
            known[name] = {entry.step for entry in client.get_metric_history(run_id, name)}
        missing = {name: value for name, value in metrics.items() if epoch not in known[name]}
        if missing:
            log_metrics(client, run_id, missing, epoch)


def _registered(version: Any) -> RegisteredVersion:
    return RegisteredVersion(version.name, int(version.version), version.run_id, dict(version.tags))
