"""What the assets of every lineage have in common: names, tags, descriptions, inputs, the link to their MLflow run."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, TypedDict

import dagster as dg

from cloud_assets.errors import TrackingUnavailable
from cloud_assets.orchestration.common.resources import Tracking
from cloud_assets.tasks.task import Task

_VERSION = "1"
"""Raised when assets of the same recipe would come out differently than before."""


GPU_POOL = "gpu"
"""Pool of the steps that want an accelerator for themselves; an instance says how many may run at once."""


class Common(TypedDict):
    """Arguments of ``dagster.asset`` that every asset has."""

    key: dg.AssetKey
    group_name: str
    description: str
    tags: dict[str, str]
    owners: list[str]
    kinds: set[str]
    code_version: str


def common(task: Task, name: list[str], what: str, recipe: Any) -> Common:
    """What all assets have; the description shows the recipe."""
    settings = json.dumps(recipe.model_dump(mode="json"), indent=2)
    return {
        "key": dg.AssetKey([task.name, *name]),
        "group_name": task.name,
        "description": f"{what}\n\n{task.title}. {task.description}\n\n```json\n{settings}\n```",
        "tags": dict(task.tags),
        "owners": list(task.owners),
        "kinds": KINDS[name[-1]],
        "code_version": hashlib.blake2b(f"{_VERSION}\n{settings}".encode(), digest_size=8).hexdigest(),
    }


KINDS: Mapping[str, set[str]] = {
    "raw_scenes": {"gdal", "geotiff"},
    "labeled_patches": {"numpy", "parquet"},
    "splits": {"scikitlearn", "parquet"},
    "trained_model": {"pytorch", "mlflow"},
    "evaluation_report": {"torchmetrics", "html"},
    "comparison": {"pandas", "html"},
    "champion": {"mlflow", "pytorch"},
    "champion_evaluation": {"torchmetrics", "html"},
    "hyperparameter_study": {"optuna", "mlflow"},
    "exported_model": {"onnx"},
    "ablation": {"pytorch", "html"},
    "drift_report": {"scipy", "html"},
    "suspicious_labels": {"pandas", "html"},
}


def upstream(task: Task, *name: str, kind: Any = None) -> dg.AssetIn:
    """Another asset of the task as an input; ``kind`` is its type where the argument's annotation does not tell."""
    key = dg.AssetKey([task.name, *name])
    return dg.AssetIn(key=key) if kind is None else dg.AssetIn(key=key, dagster_type=kind)


def dagster_link(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Tags of an MLflow run that lead to the Dagster run behind it; the note is what MLflow's page shows as text."""
    url = run_url(context.run_id)
    return {
        "dagster_run_id": context.run_id,
        "dagster_run_url": url,
        "mlflow.note.content": f"Dagster run [{context.run_id}]({url})",
    }


def run_url(run_id: str) -> str:
    """Where the Dagster UI shows a run: below ``CLOUD_ASSETS_DAGSTER_URL``, else ``http://127.0.0.1:3000``."""
    return f"{os.environ.get('CLOUD_ASSETS_DAGSTER_URL', 'http://127.0.0.1:3000').rstrip('/')}/runs/{run_id}"


def run_link(tracking: Tracking, run_id: str | None) -> Mapping[str, dg.MetadataValue]:
    """Metadata that leads from an asset to its MLflow run."""
    if run_id is None:
        return {"mlflow_run": dg.MetadataValue.text("not logged yet: MLflow was away. Materialise again to log it.")}
    tracker = tracking.tracker()
    if not tracker.uri.startswith("http"):
        return {"mlflow_run": dg.MetadataValue.md(f"run `{run_id}` in `{tracker.how_to_look()}`")}
    try:
        return {"mlflow_run": dg.MetadataValue.url(tracker.link(run_id))}
    except TrackingUnavailable:
        return {"mlflow_run": dg.MetadataValue.text(f"run {run_id} at {tracker.uri}, which does not answer now")}
