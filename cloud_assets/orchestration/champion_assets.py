"""The assets of the choice among variants, and those that look at the champion: on data of today, exported, drift."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg

from cloud_assets.errors import InvalidReport
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.lifecycle.drift import CAPTIONS as DRIFT_CAPTIONS
from cloud_assets.lifecycle.drift import DriftReport
from cloud_assets.lifecycle.drift_statistics import DriftRecipe
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.lifecycle.suspicious_labels import CAPTIONS as LABEL_CAPTIONS
from cloud_assets.lifecycle.suspicious_labels import SuspicionRecipe, SuspiciousLabels
from cloud_assets.orchestration import checks
from cloud_assets.orchestration.asset_parts import (
    GPU_POOL,
    RETRIES,
    Context,
    asset_key,
    made,
    only_outages_are_retried,
    reference_inputs,
    references,
    report_inputs,
    run_link,
    task_asset,
)
from cloud_assets.orchestration.config_schema import from_config
from cloud_assets.orchestration.metadata import (
    bullets,
    comparison_metadata,
    evaluation_metadata,
    figures,
    measured,
    metric_values,
    promotion_metadata,
    table,
)
from cloud_assets.orchestration.resources import AssetFolders, Folders, Tracking
from cloud_assets.orchestration.scene_assets import SCENE_PRODUCTS
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Comparison, Gate, compare
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.settings import settings
from cloud_assets.tasks.task import Task

_SHOWN_OF_EXPORTS = {
    "opset", "inputs_compared", "max_difference", "milliseconds", "int8_milliseconds", "int8_agreement",
}  # fmt: skip
CHAMPION_EVALUATION, EXPORTED = "champion_evaluation", "exported_model"
_DATA = ("labeled_patches", "splits")


def comparison_asset(task: Task) -> dg.AssetsDefinition:
    """A task's variants, ranked."""
    what = "The variants side by side, ranked by the gate's metric."

    @task_asset(
        task, "comparison", what, task.gate, {"pandas", "html"}, inputs=["splits"], further_inputs=report_inputs(task)
    )
    def comparison(
        context: Context, folders: Folders, splits: Splits, **reports: Evaluation | None
    ) -> Iterator[dg.MaterializeResult[Comparison]]:
        with measured() as cost:
            found = {report.variant: report for report in reports.values() if report is not None}
            now = (splits.details["patches_version"], splits.data_version)
            present = {name: one for name, one in found.items() if (one.patches_version, one.splits_version) == now}
            if len(present) < len(found):
                earlier = ", ".join(variant for variant in found if variant not in present)
                context.log.warning(f"Left out, for they were evaluated on other splits than the present: {earlier}")
            gate = effective_gate(from_config(task.gate, context.op_execution_context.op_config))
            compared = compare(present, gate)
        metadata = {**comparison_metadata(compared, folders.report(task.name, "comparison")), **cost}
        yield made(compared, compared.data_version, metadata, checks.check_comparison(compared))

    return comparison


def champion_asset(task: Task) -> dg.AssetsDefinition:
    """A task's best model so far."""

    @task_asset(
        task,
        "champion",
        "The task's best model so far, in MLflow's registry as champion.",
        task.gate,
        {"mlflow", "pytorch"},
        inputs=["comparison", *_DATA],
        further_inputs=report_inputs(task),
        # The gate is configured where the comparison applies it.
        config_schema=None,
        # The lock that promotion takes holds back this machine only, a pool with one slot all that share an instance.
        pool=f"registry_{task.name}",
        retry_policy=RETRIES,
        # The default retraining is weekly.
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=22), warn_window=timedelta(days=8)),
        deps=[asset_key(task, f"{variant}_model") for variant in task.variants],
    )
    def champion(
        context: Context,
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
        model = io_manager.find([task.name, f"{comparison.best}_model"], ModelBundle)
        bundle, evaluation = _together(task, comparison, model, reports[f"{comparison.best}_report"])
        tracker = tracking.tracker()
        with measured() as cost, only_outages_are_retried():
            workspace = folders.workspace(bundle)
            decided = promote(
                replace(task, gate=comparison.gate), bundle, evaluation, workspace, labeled_patches, splits, tracker
            )
        context.log.info(decided.record.reason)
        registered = tracker.version_at(task.name, CHAMPION)
        found = checks.check_champion(
            decided.bundle.version, registered.tags.get("model_version") if registered else None
        )
        metadata = {
            **promotion_metadata(decided.record),
            "load": dg.MetadataValue.md(f'`mlflow.pyfunc.load_model("models:/{task.name}@champion")`'),
            **run_link(tracking, decided.record.run_id, (task.name, decided.record.version)),
            **cost,
        }
        yield made(decided, decided.data_version, metadata, found)

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


def champion_evaluation_asset(task: Task) -> dg.AssetsDefinition:
    """The present champion's evaluation on the present test split."""

    @task_asset(
        task,
        CHAMPION_EVALUATION,
        "How good the registered champion is on the present test split.",
        task.evaluation,
        {"torchmetrics", "html"},
        inputs=_DATA,
        further_inputs=reference_inputs(task),
        pool=GPU_POOL,
        retry_policy=RETRIES,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=3), warn_window=timedelta(hours=26)),
        deps=[asset_key(task, "champion")],
        # A champion that was promoted, approved or rolled back is judged without waiting for the night.
        automation_condition=when_dependencies_change(optional=task.references),
    )
    def champion_evaluation(
        context: Context,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
        **champions: Champion | None,
    ) -> Iterator[dg.MaterializeResult[Evaluation]]:
        from cloud_assets.lifecycle.model_references import evaluate_champion

        evaluator = from_config(task.evaluation, context.op_execution_context.op_config)
        with measured() as cost, only_outages_are_retried():
            given = references(task, champions)
            judged = evaluate_champion(task, evaluator, labeled_patches, splits, tracking.tracker(), **given)
        context.log.info(judged.said)
        evaluation = judged.evaluation
        metadata = {
            **evaluation_metadata(evaluation, folders.report(task.name, CHAMPION_EVALUATION)),
            "champion_version": judged.version.version,
            **({} if judged.promised is None else {"promised": float(judged.promised)}),
            **run_link(tracking, judged.version.run_id),
            **cost,
        }
        yield made(evaluation, evaluation.data_version, metadata, checks.check_champion_evaluation(judged, task.gate))

    return champion_evaluation


def exported_model_asset(task: Task, defaults: ExportRecipe) -> dg.AssetsDefinition:
    """The exported champion of a task that declares how to export."""

    @task_asset(
        task,
        EXPORTED,
        "The champion for machines without PyTorch: ONNX, and in 8-bit integers.",
        defaults,
        {"onnx"},
        inputs=["champion", *_DATA],
        # A champion that was approved or rolled back by hand reaches its exported form, too.
        automation_condition=when_dependencies_change(),
    )
    def exported_model(
        context: Context, folders: Folders, champion: Champion, labeled_patches: PatchStore, splits: Splits
    ) -> Iterator[dg.MaterializeResult[Any]]:
        from cloud_assets.lifecycle.export import export_model

        recipe = from_config(defaults, context.op_execution_context.op_config)
        with measured() as cost:
            exported = export_model(task, recipe, champion.bundle, labeled_patches, splits)
        made_of = f"{champion.bundle.version} {recipe.model_dump_json()}"
        folder = dg.MetadataValue.path(str(folders.results.joinpath(task.name, EXPORTED)))
        version = hashlib.blake2b(made_of.encode(), digest_size=16).hexdigest()
        record = exported.record
        sizes = {"size_mb": record.bytes, "int8_size_mb": record.int8_bytes}
        metadata = {
            "folder": folder,
            "variant": exported.card.variant,
            **record.model_dump(include=_SHOWN_OF_EXPORTS, exclude_none=True),
            **{name: round(size / 1e6, 3) for name, size in sizes.items() if size is not None},
            **metric_values(record.metrics),
        }
        yield made(exported, version, {**metadata, **cost})

    return exported_model


def when_dependencies_change(optional: Sequence[str] = ()) -> dg.AutomationCondition[Any]:
    """Declarative automation: once another data version of a dependency is there and nothing upstream is running.

    Args:
        optional: Tasks whose champion may be missing.
    """
    condition = dg.AutomationCondition
    champions = dg.AssetSelection.assets(*(dg.AssetKey([name, "champion"]) for name in optional))
    return (
        condition.any_deps_match(condition.data_version_changed()).since_last_handled()
        & ~condition.in_progress()
        & ~condition.any_deps_in_progress()
        & ~(condition.any_deps_missing().ignore(champions) if optional else condition.any_deps_missing())
    )


DRIFT, LABELS = "drift_report", "suspicious_labels"
LEVEL = "level"  # metadata of a drift report: steady, warning or severe
_SHOWN_ROWS = 30


def monitoring_keys(task: Task) -> list[dg.AssetKey]:
    """Keys of the assets, which the task's own job leaves out: they look at a champion that is there already."""
    return [asset_key(task, name) for name in (DRIFT, LABELS)]


def drift_report_asset(task: Task) -> dg.AssetsDefinition:
    """How far new data differ from what a task's champion was trained with."""
    defaults = DriftRecipe()

    @task_asset(
        task,
        DRIFT,
        "New scenes and patches against the data that the champion was trained with.",
        defaults,
        {"scipy", "html"},
        inputs=["labeled_patches"],
        deps=[asset_key(task, "champion"), SCENE_PRODUCTS],
    )
    def drift_report(
        context: Context,
        folders: Folders,
        tracking: Tracking,
        io_manager: dg.ResourceParam[AssetFolders],
        labeled_patches: PatchStore,
    ) -> Iterator[dg.MaterializeResult[DriftReport]]:
        from cloud_assets.lifecycle.drift import drift_report as report_on_drift
        from cloud_assets.lifecycle.model_references import champion_of

        recipe = from_config(defaults, context.op_execution_context.op_config)
        _, champion = champion_of(tracking.tracker(), task)
        try:
            previous = io_manager.find([task.name, DRIFT], DriftReport)
        except InvalidReport as error:
            context.log.warning(f"A new report is begun: {error}")
            previous = None
        with measured() as cost:
            report = report_on_drift(task.name, champion, labeled_patches, folders.scenes, previous, recipe)
        for note in report.notes:
            context.log.info(note)
        metadata = {
            LEVEL: report.level,
            "batches": len(report.batches),
            "smallest_p_value": float(min((batch.p_value for batch in report.latest), default=1.0)),
            "report": dg.MetadataValue.path(folders.report(task.name, DRIFT)),
            **({"latest_batches": table(report.batch_table().head(_SHOWN_ROWS))} if report.batches else {}),
            **({} if report.features is None else {"features": table(report.features.head(_SHOWN_ROWS))}),
            **figures(report.figures, DRIFT_CAPTIONS),
            **bullets(notes=report.notes),
            **cost,
        }
        yield made(report, report.data_version, metadata, checks.check_drift(report))

    return drift_report


def suspicious_labels_asset(task: Task) -> dg.AssetsDefinition:
    """The labels that a task's champion contradicts."""
    defaults = SuspicionRecipe()

    @task_asset(
        task,
        LABELS,
        "Patches whose label the champion confidently contradicts, worst first.",
        defaults,
        {"pandas", "html"},
        inputs=["labeled_patches", "splits"],
        deps=[asset_key(task, "champion")],
    )
    def suspicious_labels(
        context: Context, folders: Folders, tracking: Tracking, labeled_patches: PatchStore, splits: Splits
    ) -> Iterator[dg.MaterializeResult[SuspiciousLabels]]:
        from cloud_assets.lifecycle.model_references import champion_of
        from cloud_assets.lifecycle.suspicious_labels import suspicious_labels as doubted

        recipe = from_config(defaults, context.op_execution_context.op_config)
        _, champion = champion_of(tracking.tracker(), task)
        with measured() as cost:
            labels = doubted(champion, labeled_patches, splits, recipe)
        metadata = {
            "looked_at": labels.looked_at,
            "learnt_from": labels.learnt_from,
            "listed": len(labels.table),
            "list": dg.MetadataValue.path(
                str(folders.results.joinpath(task.name, LABELS) / "tables" / "suspicious_labels.parquet")
            ),
            "report": dg.MetadataValue.path(folders.report(task.name, LABELS)),
            **({"first": table(labels.table.head(_SHOWN_ROWS).drop(columns="source"))} if len(labels.table) else {}),
            **figures(labels.figures, LABEL_CAPTIONS),
            **bullets(notes=labels.notes),
            **cost,
        }
        yield made(labels, labels.data_version, metadata, checks.check_labels(labels))

    return suspicious_labels
