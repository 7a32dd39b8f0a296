"""MLflow: runs, registry, the served model. The one module that imports mlflow; the others get plain Python from it.

Every method reaches the store at once or raises :class:`TrackingUnavailable`; whether work goes on without it is the
caller's decision.
"""

import json
import logging
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

# Set before MLflow reads them: with its own defaults a server that is away is retried for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

import mlflow
import numpy as np
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from cloud_assets.errors import InvalidModel, TrackingUnavailable
from cloud_assets.prediction.bundle import CARD_FILE, ModelBundle
from cloud_assets.prediction.served_model import ServedModel
from cloud_assets.storage import atomic_file

if TYPE_CHECKING:
    from cloud_assets.evaluation.evaluation import Evaluation

RUN_FILE = "mlflow_run.json"
"""In a training's workspace: which run belongs to it, so that a resumed training goes on in the same run."""

_PARENT_TAG = "mlflow.parentRunId"
MODEL_TAG = "model_id"
"""Tag of a run: the logged model that it produced."""
EVALUATION_TAG = "evaluation_version"
"""Tag of a run: the evaluation that was logged with it."""

REQUIREMENTS = ("cloud-assets", "mlflow", "numpy", "safetensors", "segmentation-models-pytorch", "timm", "torch")
"""What a served model needs; said outright, since MLflow would start a process that imports everything to find out."""

# Environments without pip (made by uv, for example) are no reason to warn: requirements are given outright.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)

_SQLITE = "sqlite:///"
_SQLITE_READY: set[str] = set()


def default_uri() -> str:
    """Where runs are kept: ``MLFLOW_TRACKING_URI``, else a SQLite store in ``mlflow/`` of the current folder.

    Returns:
        An absolute URI.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow/mlflow.db"
    if not uri.startswith(_SQLITE):
        return uri
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).resolve())


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


class Tracker:
    """The tracking store and the registry behind one URI.

    Args:
        uri: Tracking URI; default :func:`default_uri`.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or default_uri()
        self._client: MlflowClient | None = None

    @property
    def store_folder(self) -> Path | None:
        """The folder of a SQLite store; None if the store is a server's."""
        return Path(self.uri.removeprefix(_SQLITE)).parent if self.uri.startswith(_SQLITE) else None

    def begin(
        self, workspace: Path, task: str, variant: str, recipe: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """Opens the run of a training: the one that the workspace knows, else a new one.

        Args:
            workspace: The training's folder.
            task: Name of the experiment.
            variant: Name of the run.
            recipe: Nested parameters, logged as ``optimisation.batch_size`` and so on.
            tags: What the run is tagged with.

        Returns:
            The run's id.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        with self._reached() as client:
            run_id = self._known_run(client, workspace)
            if run_id is not None:
                client.update_run(run_id, status="RUNNING")
                client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
                return run_id
            experiment = _experiment(client, task, self.store_folder)
            run_id = str(client.create_run(experiment, tags=dict(tags), run_name=variant).info.run_id)
            with atomic_file(workspace / RUN_FILE) as path:
                path.write_text(json.dumps({"tracking_uri": self.uri, "run_id": run_id}), encoding="utf-8")
            parameters = [Param(name, value[:6000]) for name, value in flattened(recipe).items()]
            for start in range(0, len(parameters), 100):
                client.log_batch(run_id, params=parameters[start : start + 100])
            return run_id

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs one epoch's metrics.

        Args:
            run_id: The run.
            epoch: Number of the epoch, from 0.
            metrics: Values by name.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        with self._reached() as client:
            _log_metrics(client, run_id, metrics, epoch)

    def log_picture(self, run_id: str, epoch: int, name: str, png: bytes) -> None:
        """Keeps a picture that was made after an epoch, as ``pictures/<name>/epoch_0007.png``.

        Args:
            run_id: The run.
            epoch: Number of the epoch, from 0.
            name: What the picture shows.
            png: Its PNG file.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        with self._reached() as client, tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / f"epoch_{epoch:04d}.png"
            path.write_bytes(png)
            client.log_artifact(run_id, str(path), f"pictures/{name}")

    def end(self, run_id: str, status: str) -> None:
        """Closes a run that did not get through, as ``FAILED`` or ``KILLED``."""
        with self._reached() as client:
            client.set_terminated(run_id, status)

    def end_unfinished(self, workspace: Path) -> None:
        """Closes the run that a workspace knows as ``KILLED`` if it never came to an end."""
        with self._reached() as client:
            run_id = self._known_run(client, workspace)
            if run_id is not None and client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, "KILLED")

    def publish(self, workspace: Path, bundle: ModelBundle) -> str:
        """Sees to it that all about a finished training is in MLflow: parameters, every epoch, the model.

        Does nothing for what is there already, so it also mends a training that ran while the store was away.

        Args:
            workspace: The training's folder.
            bundle: The trained model.

        Returns:
            The id of the run, which is finished.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        card, record = bundle.card, bundle.card.training
        with self._reached() as client:
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
                "synthetic_training_data": str(card.is_synthetic_training_data).lower(),
            }
            run_id = self.begin(workspace, card.task, card.variant, record.recipe, tags)
            _log_missing_epochs(client, run_id, record.history)
            _log_metrics(client, run_id, {f"best_{name}": value for name, value in card.metrics.items()})
            mlflow.set_tracking_uri(self.uri)
            with mlflow.start_run(run_id=run_id, log_system_metrics=False):
                client.set_tag(run_id, MODEL_TAG, _log_model(bundle))
            return run_id

    def log_evaluation(self, run_id: str, evaluation: "Evaluation") -> None:
        """Logs an evaluation to the run of its training, once: test metrics, tables, figures, report.

        Args:
            run_id: The run.
            evaluation: The evaluation.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        version = evaluation.data_version
        with self._reached() as client, tempfile.TemporaryDirectory() as temporary:
            if client.get_run(run_id).data.tags.get(EVALUATION_TAG) == version:
                return
            folder = Path(temporary) / "evaluation"
            evaluation.save(folder)
            _log_metrics(client, run_id, {f"test_{name}": value for name, value in evaluation.metrics.items()})
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
        """Logs a finished piece of a run's work as a run of its own below it, once.

        Args:
            parent: The run that it belongs to.
            name: What tells the pieces of that run apart.
            parameters: Values by name.
            series: Metrics by name, each by step.
            tags: Tags.
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        with self._reached() as client:
            experiment = client.get_run(parent).info.experiment_id
            known = client.search_runs(
                [experiment], f"tags.`{_PARENT_TAG}` = '{parent}' and attributes.run_name = '{name}'", max_results=1
            )
            # A piece that was being logged when the process was killed is still open: it is filled up.
            if known and known[0].info.status != "RUNNING":
                return
            run = (
                known[0] if known else client.create_run(experiment, tags={_PARENT_TAG: parent, **tags}, run_name=name)
            )
            now = int(1000 * time())
            client.log_batch(
                run.info.run_id,
                metrics=[
                    Metric(metric, value, now, step)
                    for metric, values in series.items()
                    for step, value in values.items()
                    if np.isfinite(value)
                ],
                params=[Param(path, str(value)) for path, value in parameters.items()],
            )
            client.set_terminated(run.info.run_id, status)

    def log_folder(self, run_id: str, folder: Path, name: str, metrics: Mapping[str, float]) -> None:
        """Logs the files of a folder and some metrics to a run, which is then finished.

        Args:
            run_id: The run.
            folder: The folder.
            name: What it is called among the run's artifacts.
            metrics: Values by name.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        with self._reached() as client:
            _log_metrics(client, run_id, metrics)
            client.log_artifacts(run_id, str(folder), name)
            client.set_terminated(run_id)

    def known_run(self, workspace: Path) -> str | None:
        """The id of the run that belongs to a workspace, None if this store has none."""
        with self._reached() as client:
            return self._known_run(client, workspace)

    def link(self, run_id: str) -> str:
        """Where to look at a run: its address, or for a local store the command that shows it."""
        if not self.uri.startswith("http"):
            return f"run {run_id}: {self.how_to_look()}"
        with self._reached() as client:
            experiment = client.get_run(run_id).info.experiment_id
        return f"{self.uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"

    def how_to_look(self) -> str:
        """The address of the MLflow UI, or the command that starts it."""
        return self.uri if self.uri.startswith("http") else f"mlflow ui --backend-store-uri {self.uri}"

    def register(self, run_id: str, bundle: ModelBundle, tags: Mapping[str, str]) -> RegisteredVersion:
        """Registers a published model under its task's name, once.

        Args:
            run_id: The run that :meth:`publish` returned.
            bundle: The model.
            tags: Noted with the version, also if it was registered before.

        Returns:
            The new version, or the one that holds the same model already.

        Raises:
            TrackingUnavailable: If the store does not answer.
        """
        card = bundle.card
        with self._reached() as client:
            _ensure_registered_model(client, card.task)
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

    def set_alias(self, task: str, alias: str, version: int) -> None:
        """Points an alias (``challenger``, ``champion``) to a version of a task's registered model."""
        with self._reached() as client:
            client.set_registered_model_alias(task, alias, str(version))

    def version_at(self, task: str, alias: str) -> RegisteredVersion | None:
        """The version that an alias points to; None if there is no such alias."""
        with self._reached() as client:
            try:
                return _registered(client.get_model_version_by_alias(task, alias))
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def tag_version(self, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
        """Notes something about a registered version."""
        with self._reached() as client:
            for name, value in tags.items():
                client.set_model_version_tag(version.task, str(version.version), name, value)

    def download(self, version: RegisteredVersion) -> ModelBundle:
        """Gets a registered model.

        Raises:
            TrackingUnavailable: If the store does not answer.
            InvalidModel: If the version does not hold a model that this installation can read.
        """
        with self._reached(), tempfile.TemporaryDirectory() as temporary:
            mlflow.set_tracking_uri(self.uri)
            source = f"models:/{version.task}/{version.version}"
            folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=temporary))
            cards = sorted(folder.rglob(CARD_FILE))
            if not cards:
                raise InvalidModel(f"{source} holds no model card, so it was not registered by Cloud Assets.")
            return ModelBundle.open(cards[0].parent)

    @contextmanager
    def _reached(self) -> Iterator[MlflowClient]:
        connecting = self._client is None
        try:
            if self._client is None:
                self._client = _connected(self.uri, self.store_folder)
            connecting = False
            yield self._client
        except TrackingUnavailable:
            raise
        except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
            # A full disk below the caller's own work is no outage of MLflow.
            if isinstance(error, OSError) and not connecting and not isinstance(error, ConnectionError):
                raise
            raise TrackingUnavailable(
                f"MLflow at {self.uri} cannot be used ({' '.join(str(error).split())[:500]}). Start its server "
                "(mlflow/start_server.sh) or correct MLFLOW_TRACKING_URI, then run the same job again: what is "
                "trained is kept and will be logged."
            ) from error

    def _known_run(self, client: MlflowClient, workspace: Path) -> str | None:
        path = workspace / RUN_FILE
        if not path.exists():
            return None
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["tracking_uri"] != self.uri:
            return None
        try:
            run = client.get_run(known["run_id"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run.info.run_id if run.info.lifecycle_stage == "active" else None


def flattened(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as one level: ``{"optimisation": {"seed": 0}}`` becomes ``{"optimisation.seed": "0"}``."""
    flat: dict[str, str] = {}
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = str(value)
    return flat


def _connected(uri: str, folder: Path | None) -> MlflowClient:
    """A client of a store that answers; of a SQLite store the tables are made, by one process at a time."""
    if folder is None or uri in _SQLITE_READY:
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
        return client
    folder.mkdir(parents=True, exist_ok=True)
    path = uri.removeprefix(_SQLITE)
    with FileLock(f"{path}.lock"):
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    _SQLITE_READY.add(uri)
    return client


def _experiment(client: MlflowClient, task: str, folder: Path | None) -> str:
    found = client.get_experiment_by_name(task)
    if found is None:
        location = None if folder is None else (folder / "artifacts" / task).as_uri()
        try:
            return str(client.create_experiment(task, location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return _experiment(client, task, folder)
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    now = int(time() * 1000)
    entries = [Metric(name, float(value), now, step) for name, value in metrics.items()]
    for start in range(0, len(entries), 1000):
        client.log_batch(run_id, metrics=entries[start : start + 1000])


def _log_missing_epochs(client: MlflowClient, run_id: str, history: Sequence[Mapping[str, float]]) -> None:
    """Logs what an epoch's own call could not: each metric at the epochs that the run does not know yet."""
    known: dict[str, set[int]] = {}
    for epoch, metrics in enumerate(history):
        for name in metrics.keys() - known.keys():
            known[name] = {entry.step for entry in client.get_metric_history(run_id, name)}
        missing = {name: value for name, value in metrics.items() if epoch not in known[name]}
        if missing:
            _log_metrics(client, run_id, missing, epoch)


def _ensure_registered_model(client: MlflowClient, task: str) -> None:
    try:
        client.create_registered_model(task)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _registered(version: Any) -> RegisteredVersion:
    return RegisteredVersion(version.name, int(version.version), version.run_id, dict(version.tags))


def _log_model(bundle: ModelBundle) -> str:
    """Logs a bundle to the active run as a model that answers raw digital numbers; returns the model's id."""
    card, served = bundle.card, ServedModel(bundle)
    bands = len(card.bands)
    answer = served.predict(np.ones((1, 64, 64, bands), served.dtype))
    signature = ModelSignature(
        Schema([TensorSpec(served.dtype, (-1, -1, -1, bands))]),
        Schema([TensorSpec(array.dtype, (-1,) * array.ndim, name) for name, array in answer.items()]),
    )
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # The signature is measured above; an input example would be run through the model once more.
        warnings.filterwarnings("ignore", message=".*input example")
        folder = Path(temporary) / "bundle"
        bundle.save(folder)
        logged = mlflow.pyfunc.log_model(
            name=card.variant,
            loader_module=ServedModel.__module__,
            data_path=str(folder),
            signature=signature,
            pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
            metadata={"task": card.task, "variant": card.variant, "bands": list(card.bands), "version": bundle.version},
        )
    return str(logged.model_id)
