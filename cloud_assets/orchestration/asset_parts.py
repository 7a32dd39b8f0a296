"""Shared parts of assets: arguments, keys, inputs, results, retries, the link to their MLflow run, provenance."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import dagster as dg

from cloud_assets.errors import CloudAssetsError, SourceUnreachable, TrackingUnavailable
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.orchestration.checks import check_specs
from cloud_assets.orchestration.config_schema import config_schema
from cloud_assets.orchestration.metadata import Metadata
from cloud_assets.orchestration.resources import Tracking
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.settings import RESOURCES_TAG, StepResources, settings
from cloud_assets.tasks.task import Task
from cloud_assets.worker_processes import WorkerDied

Value = TypeVar("Value")

_VERSION = "1"  # raised when assets of the same recipe would come out differently than before
Context = dg.AssetExecutionContext
GPU_POOL = "gpu"  # pool of the steps that want an accelerator for themselves; an instance says how many may run at once
RETRIES: Final = dg.RetryPolicy(max_retries=3, delay=3, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""Three more tries after about 3, 6 and 12 seconds, scattered so that steps do not all come back at once."""
DATA_VERSION_TAG = "dagster/data_version"
RETRY_RUN_TAG = "dagster/retry_on_asset_or_op_failure"


@dg.failure_hook
def retried_run_after_outage(context: dg.HookContext) -> None:
    """Has a run started again whose step ended since Dagster's data base was away, as if its process had died.

    Dagster reads and writes its records before and after a step's own function too, where no retry policy holds.
    """
    from sqlalchemy.exc import DBAPIError

    if isinstance(context.op_exception, DBAPIError):
        context.instance.add_run_tags(context.run_id, {RETRY_RUN_TAG: "true"})


def task_asset(
    task: Task,
    name: str,
    what: str,
    recipe: Any,
    kinds: set[str],
    *,
    inputs: Sequence[str] = (),
    further_inputs: Mapping[str, dg.AssetIn] | None = None,
    fields: Mapping[str, dg.Field] | None = None,
    checks: str | None = None,
    **more: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Makes a function an asset of a task, as ``dagster.asset`` does.

    Args:
        task: The task.
        name: Last part of the key.
        what: One line about the asset.
        recipe: Its settings, a pydantic model; they are shown, can be configured and decide the code version.
        kinds: Formats and libraries, for the icons of the lineage graph.
        inputs: Other assets of the task, each an argument of the same name.
        further_inputs: Inputs whose argument has another name or an optional type.
        fields: What else can be configured.
        checks: Name of its checks, where it is not the asset's.
        more: Further arguments of ``dagster.asset``; they win.
    """
    shown = recipe.model_dump(mode="json")
    key = asset_key(task, name)
    needs = settings().training_resources if more.get("pool") == GPU_POOL else StepResources()
    arguments: dict[str, Any] = {
        "key": key,
        "group_name": task.name,
        "description": what,
        "metadata": {"recipe": dg.MetadataValue.json(shown)},
        "tags": dict(task.tags),
        "owners": list(task.owners),
        "kinds": kinds,
        "code_version": code_version(_VERSION, json.dumps(shown, indent=2)),
        "config_schema": {**config_schema(recipe), **(fields or {})},
        "check_specs": check_specs(key, checks or name),
        "ins": {**{one: dg.AssetIn(asset_key(task, one)) for one in inputs}, **(further_inputs or {})},
        "op_tags": {RESOURCES_TAG: needs.model_dump_json()},
        "hooks": {retried_run_after_outage},
    }

    def make(function: Callable[..., Any]) -> Any:
        code = function.__code__  # dagster.with_source_code_references would parse the file for the line
        place = dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno)
        arguments["metadata"] |= {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}
        return dg.asset(**{**arguments, **more})(function)

    return make


def code_version(version: str, content: str) -> str:
    """Version of an asset's code: another one for another number, or for other settings."""
    return hashlib.blake2b(f"{version}\n{content}".encode(), digest_size=8).hexdigest()


def asset_key(task: Task, name: str) -> dg.AssetKey:
    """Key of a task's asset; those of a variant are named ``<variant>_model`` and ``<variant>_report``."""
    return dg.AssetKey([task.name, name])


def variant_keys(task: Task, variants: Iterable[str]) -> list[dg.AssetKey]:
    """Keys of the models and evaluations of some variants."""
    return [asset_key(task, f"{variant}_{kind}") for variant in variants for kind in ("model", "report")]


def report_inputs(task: Task) -> dict[str, dg.AssetIn]:
    """The evaluations of all variants as inputs; None for a variant that was never evaluated."""
    names = [f"{variant}_report" for variant in task.variants]
    return {name: dg.AssetIn(asset_key(task, name), dagster_type=Evaluation | None) for name in names}  # type: ignore[arg-type]


def reference_inputs(task: Task) -> dict[str, dg.AssetIn]:
    """The champions of other tasks that this task's models are compared with, as inputs; None where there is none."""
    return {
        f"{name}_champion": dg.AssetIn([name, "champion"], dagster_type=Champion | None)  # type: ignore[arg-type]
        for name in task.references
    }


def references(task: Task, inputs: Mapping[str, Champion | None]) -> dict[str, Any]:
    """The argument ``references`` of an evaluation from :func:`reference_inputs`; nothing if the task declares none."""
    if not task.references:
        return {}
    champions = {name: inputs[f"{name}_champion"] for name in task.references}
    return {"references": {name: champion.bundle for name, champion in champions.items() if champion is not None}}


def made(
    value: Value, version: str, metadata: Metadata, checks: Sequence[dg.AssetCheckResult] = ()
) -> dg.MaterializeResult[Value]:
    """What an asset returns: a domain object and its version, what the UI shows, what was checked."""
    return dg.MaterializeResult(
        value=value, data_version=dg.DataVersion(version), metadata=metadata, check_results=checks
    )


@contextmanager
def only_outages_are_retried() -> Iterator[None]:
    """Takes care that an error which another try would meet again ends the step at once.

    Raises:
        Failure: In place of such an error, which is its cause.
    """
    try:
        yield
    except CloudAssetsError as error:
        # A training of which a process was killed, or lost with its node, goes on from its checkpoint.
        if isinstance(error, SourceUnreachable | TrackingUnavailable) or isinstance(error.__cause__, WorkerDied):
            raise
        raise dg.Failure(str(error), allow_retries=False) from error


def run_url(run_id: str) -> str:
    """Where the Dagster UI shows a run."""
    return f"{settings().dagster_url.rstrip('/')}/runs/{run_id}"


def dagster_link(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Tags of an MLflow run that lead to the Dagster run behind it; the note is what MLflow's page shows as text."""
    url = run_url(context.run_id)
    return {
        "dagster_run_id": context.run_id,
        "dagster_run_url": url,
        "mlflow.note.content": f"Dagster run [{context.run_id}]({url})",
    }


def run_link(tracking: Tracking, run_id: str | None, registered: tuple[str, int] | None = None) -> Metadata:
    """Metadata that leads from an asset to its MLflow run, and to the registered model and version if it is one."""
    if run_id is None:
        return {"mlflow_run": "not logged yet: MLflow was away. Materialise again to log it."}
    tracker = tracking.tracker()
    if not tracker.uri.startswith("http"):
        return {"mlflow_run": dg.MetadataValue.md(f"run `{run_id}` in `{tracker.how_to_look()}`")}
    try:
        links: Metadata = {"mlflow_run": dg.MetadataValue.url(tracker.link(run_id))}
        if registered is not None:
            links["mlflow_model"] = dg.MetadataValue.url(tracker.model_link(*registered))
        return links
    except TrackingUnavailable:
        return {"mlflow_run": f"run {run_id} at {tracker.uri}, which does not answer now"}


def provenance_tags(
    instance: dg.DagsterInstance, data_version: str, code_version: str | None, inputs: Mapping[dg.AssetKey, str | None]
) -> dict[str, str]:
    """Tags of a materialisation that an asset reports itself, so that Dagster tells when its inputs have changed.

    Dagster notes this only of what an asset returns at its end; an asset that tells of each partition as soon as it is
    finished has to note it itself. ``inputs`` name the partition that was read of each; None: it has no partitions.
    """
    tags = {DATA_VERSION_TAG: data_version, "dagster/data_version_is_user_provided": "true"}
    if code_version is not None:
        tags["dagster/code_version"] = code_version
    for key, partition in inputs.items():
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=None if partition is None else [partition])
        latest = next(iter(instance.fetch_materializations(wanted, limit=1).records), None)
        found = None if latest is None else latest.asset_materialization
        name = key.to_user_string()
        # INITIAL and NULL are what Dagster itself notes of an input that was never materialised.
        tags[f"dagster/input_data_version/{name}"] = ((found and found.tags) or {}).get(DATA_VERSION_TAG, "INITIAL")
        tags[f"dagster/input_event_pointer/{name}"] = "NULL" if latest is None else str(latest.storage_id)
    return tags
