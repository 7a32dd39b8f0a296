"""The assets that choose among a task's variants: comparison and champion."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import dagster as dg

from cloud_assets.errors import InvalidReport
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.orchestration.common.asset_parts import (
    common,
    model_key,
    report_inputs,
    run_link,
    upstream,
)
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.io_manager import AssetFolders
from cloud_assets.orchestration.common.metadata import comparison_metadata, measured, promotion_metadata
from cloud_assets.orchestration.common.resources import Folders, Tracking
from cloud_assets.orchestration.common.retries import RETRIES, only_outages_are_retried
from cloud_assets.orchestration.lineage import checks
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Comparison, compare, present_evaluations
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.gate import Gate
from cloud_assets.settings import settings
from cloud_assets.tasks.task import Task


def comparison_asset(task: Task) -> dg.AssetsDefinition:
    """A task's variants, ranked."""
    key = dg.AssetKey([task.name, "comparison"])

    @dg.asset(
        **common(
            task, "comparison", "The variants side by side, ranked by the gate's metric.", task.gate, {"pandas", "html"}
        ),
        config_schema=config_schema(task.gate),
        check_specs=checks.comparison_checks(key),
        ins={"splits": upstream(task, "splits"), **report_inputs(task)},
    )
    def comparison(
        context: dg.AssetExecutionContext, folders: Folders, splits: Splits, **reports: Evaluation | None
    ) -> Iterator[dg.MaterializeResult[Comparison]]:
        with measured() as cost:
            found = {report.variant: report for report in reports.values() if report is not None}
            present = present_evaluations(found, splits)
            if len(present) < len(found):
                earlier = ", ".join(variant for variant in found if variant not in present)
                context.log.warning(f"Left out, for they were evaluated on other splits than the present: {earlier}")
            gate = effective_gate(from_config(task.gate, context.op_execution_context.op_config))
            compared = compare(present, gate)
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

    @dg.asset(
        **common(
            task,
            "champion",
            "The task's best model so far, in MLflow's registry as champion.",
            task.gate,
            {"mlflow", "pytorch"},
        ),
        check_specs=checks.champion_checks(key),
        retry_policy=RETRIES,
        # The default retraining is weekly.
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=22), warn_window=timedelta(days=8)),
        deps=[model_key(task, variant) for variant in task.variants],
        ins={
            **report_inputs(task),
            "comparison": upstream(task, "comparison"),
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
        },
    )
    def champion(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        io_manager: dg.ResourceParam[AssetFolders],
        comparison: Comparison,
        labeled_patches: PatchStore,
        splits: Splits,
        **reports: Evaluation | None,
    ) -> Iterator[dg.MaterializeResult[Champion]]:
        from cloud_assets.lifecycle.promotion import CHAMPION, promote

        # Only the best variant's model is opened: models are large.
        model = io_manager.find(model_key(task, comparison.best).path, ModelBundle)
        bundle, evaluation = _together(task, comparison, model, reports[f"{comparison.best}_report"])
        tracker = tracking.tracker()
        with measured() as cost, only_outages_are_retried():
            workspace = folders.workspace(bundle)
            decided = promote(
                replace(task, gate=comparison.gate), bundle, evaluation, workspace, labeled_patches, splits, tracker
            )
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


def effective_gate(gate: Gate) -> Gate:
    """The gate that the comparison records and promotion applies: the environment may ask for a person's approval."""
    return gate.model_copy(update={"approval": "manual"}) if settings().approval == "manual" else gate


def _together(
    task: Task, comparison: Comparison, bundle: ModelBundle | None, evaluation: Evaluation | None
) -> tuple[ModelBundle, Evaluation]:
    """The best variant's model and its evaluation, if they and the comparison are of the same model."""
    versions = {
        "comparison": comparison.model_versions[comparison.best],
        "model": None if bundle is None else bundle.version,
        "report": None if evaluation is None else evaluation.model_version,
    }
    if bundle is None or evaluation is None or len(set(versions.values())) > 1:
        raise InvalidReport(
            f"{task.name}/{comparison.best}: trained model, evaluation and comparison are of different models "
            f"({versions}). Materialise {comparison.best}_report and the comparison again."
        )
    return bundle, evaluation
