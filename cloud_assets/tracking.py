"""Tracking with MLflow: runs, the model registry, the served model. The one module that imports mlflow.

There is one run a training, resumed with it and completed afterwards if MLflow was unavailable meanwhile; and one
registered model a task, with aliases for the challenger and the champion. Every method reaches the store at once or
raises :class:`TrackingUnavailable`; whether work goes on without it is the caller's decision.
"""

import hashlib
import json
import logging
import os
import re
import shlex
import sqlite3
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from time import time
from typing import Any, TypeVar
from urllib.parse import quote, unquote

# Set before MLflow reads them: with its own defaults a server that is away is retried for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
import numpy as np
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from cloud_assets.errors import InvalidModel, InvalidReport, TrackingUnavailable
from cloud_assets.families.served_model import ServedModel
from cloud_assets.inference.bundle import CARD_FILE, ModelBundle, ModelCard
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.report import readable
from cloud_assets.storage import atomic_file, locked, machine_folder

Found = TypeVar("Found")

REQUIREMENTS = ("cloud-assets", "mlflow", "numpy", "safetensors", "segmentation-models-pytorch", "timm", "torch")
"""What a served model needs; said outright, since MLflow would start a process that imports everything to find out."""

# Environments without pip (made by uv, for example) are no reason to warn: requirements are given outright.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)

_SQLITE = "sqlite:///"
_SQLITE_READY: set[str] = set()
_REFUSED_SIGNS = re.compile(r"[^\w\-./ :]")  # what MLflow refuses in the name of a metric, a comma for example
_PARAMETER_LENGTH = 6000
RUN_FILE = "mlflow_run.json"
"""In a training's workspace: which run belongs to it, so that a resumed training goes on in the same run."""
MODEL_TAG = "model_id"  # tag of a run: the logged model that it produced
EVALUATION_TAG = "evaluation_version"  # tag of a run: the evaluation that was logged with it

_PARENT_TAG = "mlflow.parentRunId"
_OF_MODELS = "?workflowType=machine_learning"  # else MLflow's pages open on traces of language models
_CREATION_TAG = "creation"
_TAG_LENGTH = 4000
_STANDING = "\n\n### Decision\n\n"
"""In a version's description, what stands before this is never changed; what comes after it is written anew."""
_PATIENCE_SECONDS = 3600


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    task: str  # name of the registered model
    version: int  # from 1
    run_id: str  # the training run that it comes from
    tags: Mapping[str, str]


def default_uri() -> str:
    """Where runs are kept, absolute and quoted: ``MLFLOW_TRACKING_URI``, else a SQLite store in ``mlflow/`` here."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow/mlflow.db"
    return _SQLITE + quote(str(_sqlite_path(uri).resolve()), safe="/:\\") if uri.startswith(_SQLITE) else uri


def _sqlite_path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix(_SQLITE)))


class Tracker:
    """The runs and the registered models behind one URI, :func:`default_uri` unless another is given."""

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or default_uri()
        self._client: MlflowClient | None = None

    @property
    def store_folder(self) -> Path | None:
        """The folder of a SQLite store; None if the store is a server's."""
        return _sqlite_path(self.uri).parent if self.uri.startswith(_SQLITE) else None

    def how_to_look(self) -> str:
        """The address of the MLflow UI, or the command that starts it."""
        return self.uri if self.uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(self.uri)}"

    @contextmanager
    def reached(self) -> Iterator[MlflowClient]:
        """Yields a client of the store.

        Raises:
            TrackingUnavailable: If the store does not answer, now or while the client is used.
        """
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

    def experiment(self, client: MlflowClient, name: str) -> str:
        """The id of an experiment, which is made or brought back if need be."""
        found = client.get_experiment_by_name(name)
        if found is None:
            folder = self.store_folder
            location = None if folder is None else (folder / "artifacts" / name).as_uri()
            created = unless(["RESOURCE_ALREADY_EXISTS"], lambda: client.create_experiment(name, location))
            return self.experiment(client, name) if created is None else str(created)
        if found.lifecycle_stage != "active":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def log_model(self, client: MlflowClient, run_id: str, bundle: ModelBundle) -> str:
        """Logs a model that takes raw digital numbers to a run, which is then finished; returns the model's id."""
        card, served = bundle.card, ServedModel(bundle)
        mlflow.set_tracking_uri(self.uri)
        with (
            tempfile.TemporaryDirectory() as temporary,
            warnings.catch_warnings(),
            mlflow.start_run(run_id=run_id, log_system_metrics=False),
        ):
            # The signature is measured; an input example would be run through the model once more.
            warnings.filterwarnings("ignore", message=".*input example")
            folder = Path(temporary) / "bundle"
            bundle.save(folder)
            logged = mlflow.pyfunc.log_model(
                name=card.variant,
                loader_module=ServedModel.__module__,
                data_path=str(folder),
                signature=_signature(served),
                pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
                metadata={
                    "task": card.task,
                    "variant": card.variant,
                    "bands": list(card.bands),
                    "version": bundle.version,
                },
            )
        return str(logged.model_id)

    def begin(
        self, workspace: Path, task: str, variant: str, recipe: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """Opens the run of a training, the one noted in its workspace or else a new one, and returns its id.

        The recipe is logged as parameters ``optimisation.batch_size`` and so on.
        """
        with self.reached() as client:
            run_id = self.known_run(workspace)
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
            run_id = self.known_run(workspace)
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
            known = self.known_run(workspace)
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
            for name in dict.fromkeys(name for metrics in record.history for name in metrics):
                known_steps = {entry.step for entry in client.get_metric_history(run_id, name)}
                values = {step: metrics[name] for step, metrics in enumerate(record.history) if name in metrics}
                log_series(client, run_id, {name: {step: values[step] for step in values.keys() - known_steps}})
            log_metrics(client, run_id, {f"best_{name}": value for name, value in card.metrics.items()})
            client.set_tag(run_id, MODEL_TAG, self.log_model(client, run_id, bundle))
            return run_id

    def log_evaluation(self, run_id: str, evaluation: Evaluation) -> None:
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
        path = workspace / RUN_FILE
        if not path.exists():
            return None
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["tracking_uri"] != self.uri:
            return None
        with self.reached() as client:
            if "run_id" not in known:
                wanted = f"tags.{_CREATION_TAG} = '{known['token']}'"
                found = client.search_runs([known["experiment"]], wanted, max_results=1)
                return str(found[0].info.run_id) if found else None
            run = unless(["RESOURCE_DOES_NOT_EXIST"], lambda: client.get_run(known["run_id"]))
        return run.info.run_id if run is not None and run.info.lifecycle_stage == "active" else None

    def link(self, run_id: str) -> str:
        """The address of a run on a server."""
        with self.reached() as client:
            experiment = client.get_run(run_id).info.experiment_id
        return f"{self.uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}{_OF_MODELS}"

    def model_link(self, task: str, version: int) -> str:
        """The address of a registered version on a server."""
        return f"{self.uri.rstrip('/')}/#/models/{quote(task)}/versions/{version}{_OF_MODELS}"

    def register(self, run_id: str, bundle: ModelBundle, tags: Mapping[str, str], about: str = "") -> RegisteredVersion:
        """Registers the model of a published run under its task's name, once; tags are noted each time.

        ``about`` describes the registered model, if nobody has described it yet.

        Returns:
            The new version, or the one that holds the same model already.
        """
        card = bundle.card
        with self.reached() as client:
            unless(["RESOURCE_ALREADY_EXISTS"], lambda: client.create_registered_model(card.task))
            if about and not client.get_registered_model(card.task).description:
                client.update_registered_model(card.task, about)
            same = {"model_version": bundle.version, "variant": card.variant}
            known = client.search_model_versions(f"name = '{card.task}'")
            version = next((found for found in known if same.items() <= found.tags.items()), None)
            if version is None:
                model_id = client.get_run(run_id).data.tags[MODEL_TAG]
                source = f"models:/{model_id}"
                version = client.create_model_version(
                    card.task, source, run_id, tags=same, description=_about(card), model_id=model_id
                )
            for name, value in tags.items():
                client.set_model_version_tag(card.task, version.version, name, value)
            _describe(client, card.task, version.version)
            return _registered(client.get_model_version(card.task, version.version))

    def versions(self, task: str) -> list[RegisteredVersion]:
        """All versions of a task's registered model, newest first; none if it was never registered."""
        with self.reached() as client:
            found = client.search_model_versions(f"name = '{task}'")
            return sorted((_registered(version) for version in found), key=lambda version: -version.version)

    def registered_tasks(self) -> list[str]:
        """The tasks that have a registered model, by name; other programs' models are not among them."""
        with self.reached() as client:
            return sorted({version.name for version in client.search_model_versions("tag.variant LIKE '%'")})

    def set_alias(self, task: str, alias: str, version: int) -> None:
        """Points an alias (``challenger``, ``champion``) to a version of a task's registered model."""
        with self.reached() as client:
            client.set_registered_model_alias(task, alias, str(version))

    def version_at(self, task: str, alias: str) -> RegisteredVersion | None:
        """The version that an alias points to; None if there is no such alias, or that version was deleted."""
        with self.reached() as client:
            # SQLite stores say "invalid" where servers say "absent".
            codes = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
            found = unless(codes, lambda: client.get_model_version_by_alias(task, alias))
            return None if found is None else _registered(found)

    def tag_version(self, version: RegisteredVersion, tags: Mapping[str, str | None]) -> None:
        """Notes something about a registered version; what is None is forgotten."""
        number = str(version.version)
        with self.reached() as client:
            for name, value in tags.items():
                if value is None:
                    client.delete_model_version_tag(version.task, number, name)
                else:
                    client.set_model_version_tag(version.task, number, name, value[:_TAG_LENGTH])
            _describe(client, version.task, number)

    def deciding(self, task: str) -> AbstractContextManager[None]:
        """Holds all other processes of this machine back from changing a task's champion.

        Raises:
            AlreadyRunning: If another process takes longer than an hour.
            TrackingUnavailable: If the store's folder cannot be written to.
        """
        folder = self.store_folder or machine_folder()
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
            mlflow.set_tracking_uri(self.uri)
            cards = sorted(Path(mlflow.artifacts.download_artifacts(source, dst_path=temporary)).rglob(CARD_FILE))
            if not cards:
                raise InvalidModel(f"{source} is no model of Cloud Assets (no model card). Name another version.")
            return ModelBundle.open(cards[0].parent)

    def evaluation(self, version: RegisteredVersion) -> Evaluation:
        """What :meth:`log_evaluation` logged of a registered model; :class:`InvalidReport` if nothing was."""
        with self.reached() as client, tempfile.TemporaryDirectory() as temporary:
            if not any(file.path == "evaluation" for file in client.list_artifacts(version.run_id)):
                said = f"{self.uri} keeps no evaluation of models:/{version.task}/{version.version}."
                raise InvalidReport(f"{said} Name the folder of its report, or run its job again.")
            return Evaluation.open(Path(client.download_artifacts(version.run_id, "evaluation", temporary)))

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


def _about(card: ModelCard) -> str:
    """The first lines of a version's description: what the model is, and what it learnt from."""
    record = card.training
    mixed = " and simulated ones" if record.recipe.get("simulated_fraction") else ""
    data = "simulated images only" if card.is_synthetic_training_data else f"real images{mixed}"
    return (
        f"**{card.variant}**, a {card.family} model ({card.network.architecture}) for {card.preprocessing.instrument}, "
        f"bands {', '.join(card.bands)}. Trained on {data}, epochs: {record.epochs_run} "
        f"({record.seconds / 60:.1f} minutes on {record.device.partition(',')[0]})."
    )


def _describe(client: MlflowClient, task: str, number: str) -> None:
    """Writes what a version's tags say below what stands in its description already."""
    version = client.get_model_version(task, number)
    tags, lines = version.tags, [(version.description or "").partition(_STANDING)[0] + _STANDING]
    lines.append(f"{tags.get('decision', 'not decided yet')}\n\n| test split | |\n| --- | --- |")
    lines += [f"| {readable(key[5:])} | {float(tags[key]):.4f} |" for key in tags if key.startswith("test_")]
    if tags.get("is_synthetic") == "true":
        lines.append("\nThe test images are simulated: these numbers say nothing about real imagery.")
    run = unless(["RESOURCE_DOES_NOT_EXIST"], lambda: client.get_run(str(version.run_id)))
    if run is not None and (url := run.data.tags.get("dagster_run_url")):
        asset = f"{url.partition('/runs/')[0]}/assets/{task}/{tags['variant']}_model"
        lines.append(f"\n[Dagster run]({url}) · [asset]({asset})")
    client.update_model_version(task, number, "\n".join(lines))


def _registered(version: Any) -> RegisteredVersion:
    return RegisteredVersion(version.name, int(version.version), version.run_id, dict(version.tags))


def unless(codes: Sequence[str], ask: Callable[[], Found]) -> Found | None:
    """What a call of MLflow returns; None if it raises an error of those codes."""
    try:
        return ask()
    except MlflowException as error:
        if error.error_code not in codes:
            raise
        return None


def log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Logs metrics of one step to a run; what is not finite is left out."""
    log_series(client, run_id, {name: {step: value} for name, value in metrics.items()})


def log_series(client: MlflowClient, run_id: str, series: Mapping[str, Mapping[int, float]]) -> None:
    """Logs metrics of many steps to a run; what is not finite is left out, and so are signs that MLflow refuses."""
    now = int(time() * 1000)
    entries = [
        Metric(_REFUSED_SIGNS.sub("", name), float(value), now, step)
        for name, values in series.items()
        for step, value in values.items()
        if np.isfinite(value)
    ]
    client.log_batch(run_id, metrics=entries)


def log_parameters(client: MlflowClient, run_id: str, parameters: Mapping[str, str]) -> None:
    """Logs parameters to a run."""
    client.log_batch(run_id, params=[Param(name, value[:_PARAMETER_LENGTH]) for name, value in parameters.items()])


def _connected(uri: str, folder: Path | None) -> MlflowClient:
    """A client of a store that answers; of a SQLite store the tables are made, by one process at a time."""
    if folder is None or uri in _SQLITE_READY:
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
        return client
    folder.mkdir(parents=True, exist_ok=True)
    path = _sqlite_path(uri)
    with FileLock(f"{path}.lock"):
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    _SQLITE_READY.add(uri)
    return client


def _signature(served: ServedModel) -> ModelSignature:
    """What a model takes and gives, any number of patches of any size; the outputs are measured."""
    preprocessing = served.bundle.card.preprocessing
    bands = len(preprocessing.bands)
    # What the model may well be given: decibels and reflectance differ in what is plausible.
    example = preprocessing.profile.to_dn(np.full((1, 64, 64, bands), np.mean(preprocessing.clip)))
    answer = served.predict(example.astype(served.dtype))
    return ModelSignature(
        Schema([TensorSpec(served.dtype, (-1, -1, -1, bands))]),
        Schema([TensorSpec(array.dtype, (-1,) * array.ndim, name) for name, array in answer.items()]),
    )
