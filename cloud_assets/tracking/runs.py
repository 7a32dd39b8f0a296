"""MLflow runs: one a training, resumed with it and completed afterwards if MLflow was unavailable meanwhile."""

import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.storage import atomic_file
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


class Runs(Store):
    """The runs of a store."""

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
        """Logs a finished piece of a run's work as a run of its own below it, once.

        Args:
            parent: The run that it belongs to.
            name: Identifies the nested run within its parent.
            parameters: Values by name.
            series: Metrics by name, each by step.
            tags: Tags.
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        """
        with self.reached() as client:
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
            log_series(client, run.info.run_id, series)
            log_parameters(client, run.info.run_id, {path: str(value) for path, value in parameters.items()})
            client.set_terminated(run.info.run_id, status)

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
