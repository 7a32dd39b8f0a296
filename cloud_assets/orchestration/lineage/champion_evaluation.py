"""The asset of the champion's evaluation on the present labelled data."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.orchestration.automation.automation_settings import TASK_TAG, when_dependencies_change
from cloud_assets.orchestration.common.asset_parts import (
    GPU_POOL,
    common,
    reference_inputs,
    references,
    run_link,
    upstream,
)
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.console import LOGGER
from cloud_assets.orchestration.common.metadata import evaluation_metadata, measured
from cloud_assets.orchestration.common.resources import Folders, Tracking
from cloud_assets.orchestration.common.retries import RETRIES, only_outages_are_retried
from cloud_assets.orchestration.lineage.checks import champion_evaluation_checks, check_champion_evaluation
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

NAME = "champion_evaluation"


def champion_evaluation_job_name(task: Task) -> str:
    """Name of the job."""
    return f"{task.name}_{NAME}"


def champion_evaluation_job(task: Task) -> "UnresolvedAssetJobDefinition":
    """The job that reads the labelled data again and judges the champion on them."""
    keys = [dg.AssetKey([task.name, name]) for name in ("raw_scenes", "labeled_patches", "splits", NAME)]
    return dg.define_asset_job(
        champion_evaluation_job_name(task),
        selection=dg.AssetSelection.assets(*keys),
        description=f"{task.title}: how good the champion is on the labelled data of today.",
        config={"loggers": {LOGGER: {"config": {}}}},
        tags={TASK_TAG: task.name},
    )


def champion_evaluation_asset(task: Task) -> dg.AssetsDefinition:
    """The present champion's evaluation on the present test split."""
    key = dg.AssetKey([task.name, NAME])

    @dg.asset(
        **common(
            task,
            NAME,
            "How good the registered champion is on the present test split.",
            task.evaluation,
            {"torchmetrics", "html"},
        ),
        config_schema=config_schema(task.evaluation),
        check_specs=champion_evaluation_checks(key),
        pool=GPU_POOL,
        retry_policy=RETRIES,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=3), warn_window=timedelta(hours=26)),
        deps=[dg.AssetKey([task.name, "champion"])],
        ins={
            **reference_inputs(task),
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
        },
        # A champion that was promoted, approved or rolled back is judged without waiting for the night.
        automation_condition=when_dependencies_change(optional=task.references),
    )
    def champion_evaluation(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
        **champions: Champion | None,
    ) -> Iterator[dg.MaterializeResult[Evaluation]]:
        from cloud_assets.lifecycle.registered_champions import evaluate_champion

        evaluator = from_config(task.evaluation, context.op_execution_context.op_config)
        with measured() as cost, only_outages_are_retried():
            given = references(task, champions)
            judged = evaluate_champion(task, evaluator, labeled_patches, splits, tracking.tracker(), **given)
        context.log.info(judged.said)
        evaluation, report = judged.evaluation, str(folders.results.joinpath(*key.path) / "report.html")
        yield dg.MaterializeResult(
            value=evaluation,
            data_version=dg.DataVersion(evaluation.data_version),
            metadata={
                **evaluation_metadata(evaluation, report),
                "champion_version": dg.MetadataValue.int(judged.version.version),
                **({} if judged.promised is None else {"promised": dg.MetadataValue.float(judged.promised)}),
                **run_link(tracking, judged.version.run_id),
                **cost,
            },
            check_results=check_champion_evaluation(judged, task.gate),
        )

    return champion_evaluation
