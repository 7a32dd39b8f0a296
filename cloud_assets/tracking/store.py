"""The MLflow store and its client; the one module that imports mlflow."""

import logging
import os
import re
import shlex
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from time import time
from typing import TypeVar
from urllib.parse import quote, unquote

# Set before MLflow reads them: with its own defaults a server that is away is retried for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

import mlflow
import numpy as np
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from cloud_assets.errors import TrackingUnavailable
from cloud_assets.families.served_model import ServedModel
from cloud_assets.inference.bundle import ModelBundle

Found = TypeVar("Found")
Client = MlflowClient

REQUIREMENTS = ("cloud-assets", "mlflow", "numpy", "safetensors", "segmentation-models-pytorch", "timm", "torch")
"""What a served model needs; said outright, since MLflow would start a process that imports everything to find out."""

# Environments without pip (made by uv, for example) are no reason to warn: requirements are given outright.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)

_SQLITE = "sqlite:///"
_SQLITE_READY: set[str] = set()
_REFUSED_SIGNS = re.compile(r"[^\w\-./ :]")
"""What MLflow refuses in the name of a metric, a comma for example."""
_METRICS_A_CALL, _PARAMETERS_A_CALL, _PARAMETER_LENGTH = 1000, 100, 6000


def default_uri() -> str:
    """Where runs are kept: ``MLFLOW_TRACKING_URI``, else a SQLite store in ``mlflow/`` of the current folder.

    Returns:
        An absolute URI.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow/mlflow.db"
    if not uri.startswith(_SQLITE):
        return uri
    return sqlite_uri(_sqlite_path(uri).resolve())


def sqlite_uri(path: Path) -> str:
    """The URI of a SQLite store; signs that mean something in a URI are quoted."""
    return _SQLITE + quote(str(path), safe="/:\\")


def _sqlite_path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix(_SQLITE)))


class Store:
    """A tracking store and registry behind one URI.

    Args:
        uri: Tracking URI; default :func:`default_uri`.
    """

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
            created = unless("RESOURCE_ALREADY_EXISTS", lambda: client.create_experiment(name, location))
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

    def download_model(self, source: str, folder: Path) -> Path:
        """Downloads a logged or registered model (``models:/...``) and returns the folder of its files."""
        mlflow.set_tracking_uri(self.uri)
        return Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))


def unless(code: str, ask: Callable[[], Found]) -> Found | None:
    """What a call of MLflow returns; None if it raises the error of that code."""
    try:
        return ask()
    except MlflowException as error:
        if error.error_code != code:
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
    for start in range(0, len(entries), _METRICS_A_CALL):
        client.log_batch(run_id, metrics=entries[start : start + _METRICS_A_CALL])


def log_parameters(client: MlflowClient, run_id: str, parameters: Mapping[str, str]) -> None:
    """Logs parameters to a run."""
    entries = [Param(name, value[:_PARAMETER_LENGTH]) for name, value in parameters.items()]
    for start in range(0, len(entries), _PARAMETERS_A_CALL):
        client.log_batch(run_id, params=entries[start : start + _PARAMETERS_A_CALL])


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
