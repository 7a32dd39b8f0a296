"""The assets that choose among a task's variants: comparison and champion."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg

from cloud_assets.evaluation.comparison import Comparison, compare
from cloud_assets.evaluation.evaluation import Evaluation
from cloud_assets.orchestration import checks
from cloud_assets.orchestration.asset_parts import common, run_link, upstream
from cloud_assets.orchestration.config_schema import config_schema, from_config
from cloud_assets.orchestration.metadata import comparison_metadata, measured, promotion_metadata
from cloud_assets.orchestration.resources import Folders, Tracking
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.prediction.bundle import ModelBundle
from cloud_assets.tasks.promotion import Champion
from cloud_assets.tasks.task import Task


def comparison_asset(task: Task) -> dg.AssetsDefinition:
    """A task's variants, ranked."""
    key = dg.AssetKey([task.name, "comparison"])

    @dg.asset(
        **common(task, ["comparison"], "The variants side by side, ranked by the gate's metric.", task.gate),
        config_schema=config_schema(task.gate),
        check_specs=checks.comparison_checks(key),
        ins={variant: upstream(task, variant, "evaluation_report", kind=Evaluation) for variant in task.variants},
    )
    def comparison(
        context: dg.AssetExecutionContext, folders: Folders, **evaluations: Evaluation
    ) -> Iterator[dg.MaterializeResult[Comparison]]:
        with measured() as cost:
            compared = compare(evaluations, from_config(task.gate, context.op_execution_context.op_config))
        report = str(folders.results.joinpath(*key.path) / "report.html")
        yield dg.MaterializeResult(
            value=compared,
            data_version=dg.DataVersion(compared.data_version),
            metadata={**comparison_metadata(compared, report), **cost},
            check_results=checks.check_comparison(compared),
        )

    return comparison


def champion_asset(task: Task) -> dg.AssetsDefinition:
    """A task's best model so far."""
    key = dg.AssetKey([task.name, "champion"])
    models = {
        f"{variant}_model": upstream(task, variant, "trained_model", kind=ModelBundle) for variant in task.variants
    }
    reports = {
        f"{variant}_report": upstream(task, variant, "evaluation_report", kind=Evaluation) for variant in task.variants
    }

    @dg.asset(
        **common(task, ["champion"], "The task's best model so far, in MLflow's registry as champion.", task.gate),
        check_specs=checks.champion_checks(key),
        ins={
            "comparison": upstream(task, "comparison"),
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
            **models,
            **reports,
        },
    )
    def champion(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        comparison: Comparison,
        labeled_patches: PatchStore,
        splits: Splits,
        **inputs: Any,
    ) -> Iterator[dg.MaterializeResult[Champion]]:
        from cloud_assets.tasks.promotion import CHAMPION, promote

        bundle: ModelBundle = inputs[f"{comparison.best}_model"]
        evaluation: Evaluation = inputs[f"{comparison.best}_report"]
        tracker = tracking.tracker()
        with measured() as cost:
            workspace = folders.workspace(bundle)
            judged = replace(task, gate=comparison.gate)
            decided = promote(judged, bundle, evaluation, workspace, labeled_patches, splits, tracker)
        context.log.info(decided.record.reason)
        registered = tracker.version_at(task.name, CHAMPION)
        yield dg.MaterializeResult(
            value=decided,
            data_version=dg.DataVersion(decided.data_version),
            metadata={
                **promotion_metadata(decided.record),
                "load": dg.MetadataValue.md(f'`mlflow.pyfunc.load_model("models:/{task.name}@champion")`'),
                **run_link(tracking, decided.record.run_id),
                **cost,
            },
            check_results=checks.check_champion(
                decided.bundle.version, registered.tags.get("model_version") if registered else None
            ),
        )

    return champion
