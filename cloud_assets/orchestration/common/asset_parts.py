"""Shared parts of assets: names, tags, descriptions, inputs, the link to their MLflow run."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import dagster as dg

from cloud_assets.errors import TrackingUnavailable
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.orchestration.common.resources import Tracking
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.settings import settings
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
    metadata: dict[str, dg.MetadataValue]
    tags: dict[str, str]
    owners: list[str]
    kinds: set[str]
    code_version: str


def common(task: Task, name: str, what: str, recipe: Any, kinds: set[str]) -> Common:
    """What all assets have.

    Args:
        task: The task.
        name: Last part of the key.
        what: One line about the asset.
        recipe: Its settings, a pydantic model; they are shown and decide the code version.
        kinds: Formats and libraries, for the icons of the lineage graph.
    """
    settings = recipe.model_dump(mode="json")
    content = f"{_VERSION}\n{json.dumps(settings, indent=2)}"
    return {
        "key": dg.AssetKey([task.name, name]),
        "group_name": task.name,
        "description": what,
        "metadata": {"recipe": dg.MetadataValue.json(settings)},
        "tags": dict(task.tags),
        "owners": list(task.owners),
        "kinds": kinds,
        "code_version": hashlib.blake2b(content.encode(), digest_size=8).hexdigest(),
    }


def model_key(task: Task, variant: str) -> dg.AssetKey:
    """Key of a variant's trained model."""
    return dg.AssetKey([task.name, f"{variant}_model"])


def report_key(task: Task, variant: str) -> dg.AssetKey:
    """Key of a variant's evaluation."""
    return dg.AssetKey([task.name, f"{variant}_report"])


def variant_keys(task: Task, variants: Iterable[str]) -> list[dg.AssetKey]:
    """Keys of the models and evaluations of some variants."""
    return [key(task, variant) for variant in variants for key in (model_key, report_key)]


def upstream(task: Task, name: str, kind: Any = None) -> dg.AssetIn:
    """Another asset of the task as an input; ``kind`` is its type where the argument's annotation does not tell."""
    key = dg.AssetKey([task.name, name])
    return dg.AssetIn(key=key) if kind is None else dg.AssetIn(key=key, dagster_type=kind)


def report_inputs(task: Task) -> dict[str, dg.AssetIn]:
    """The evaluations of all variants as inputs; None for a variant that was never evaluated."""
    return {f"{variant}_report": _optional(report_key(task, variant), Evaluation) for variant in task.variants}


def reference_inputs(task: Task) -> dict[str, dg.AssetIn]:
    """The champions of other tasks that this task's models are compared with, as inputs; None where there is none."""
    return {f"{name}_champion": _optional(dg.AssetKey([name, "champion"]), Champion) for name in task.references}


def _optional(key: dg.AssetKey, kind: Any) -> dg.AssetIn:
    return dg.AssetIn(key=key, dagster_type=kind | None)


def references(task: Task, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The argument ``references`` of an evaluation; nothing for a task that declares none.

    Args:
        task: The task.
        inputs: Those of :func:`reference_inputs`, by name, among others.
    """
    if not task.references:
        return {}
    champions = {name: inputs[f"{name}_champion"] for name in task.references}
    return {"references": {name: champion.bundle for name, champion in champions.items() if champion is not None}}


def dagster_link(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Tags of an MLflow run that lead to the Dagster run behind it; the note is what MLflow's page shows as text."""
    url = run_url(context.run_id)
    return {
        "dagster_run_id": context.run_id,
        "dagster_run_url": url,
        "mlflow.note.content": f"Dagster run [{context.run_id}]({url})",
    }


def run_url(run_id: str) -> str:
    """Where the Dagster UI shows a run."""
    return f"{settings().dagster_url.rstrip('/')}/runs/{run_id}"


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
