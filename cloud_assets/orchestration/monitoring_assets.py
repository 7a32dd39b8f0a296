"""Monitoring assets: drift of incoming data, suspicious labels."""

from collections.abc import Iterator

import dagster as dg

from cloud_assets.errors import InvalidReport
from cloud_assets.lifecycle.drift import CAPTIONS as DRIFT_CAPTIONS
from cloud_assets.lifecycle.drift import DriftReport
from cloud_assets.lifecycle.drift_statistics import DriftRecipe
from cloud_assets.lifecycle.suspicious_labels import CAPTIONS as LABEL_CAPTIONS
from cloud_assets.lifecycle.suspicious_labels import SuspicionRecipe, SuspiciousLabels
from cloud_assets.orchestration.asset_parts import asset_key, made, task_asset
from cloud_assets.orchestration.checks import check_drift, check_labels
from cloud_assets.orchestration.config_schema import from_config
from cloud_assets.orchestration.metadata import bullets, figures, measured, table
from cloud_assets.orchestration.resources import AssetFolders, Folders, Tracking
from cloud_assets.orchestration.scene_assets import SCENE_PRODUCTS
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task

DRIFT, LABELS = "drift_report", "suspicious_labels"
LEVEL = "level"
"""Metadata of a drift report: steady, warning or severe."""
_SHOWN_ROWS = 30


def monitoring_keys(task: Task) -> list[dg.AssetKey]:
    """Keys of the assets, which the task's own job leaves out: they look at a champion that is there already."""
    return [asset_key(task, name) for name in (DRIFT, LABELS)]


def drift_report_asset(task: Task) -> dg.AssetsDefinition:
    """How far new data differ from what a task's champion was trained with."""
    defaults = DriftRecipe()
    what = "New scenes and patches against the data that the champion was trained with."

    @task_asset(
        task,
        DRIFT,
        what,
        defaults,
        {"scipy", "html"},
        inputs=["labeled_patches"],
        deps=[asset_key(task, "champion"), SCENE_PRODUCTS],
    )
    def drift_report(
        context: dg.AssetExecutionContext,
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
        yield made(report, report.data_version, metadata, check_drift(report))

    return drift_report


def suspicious_labels_asset(task: Task) -> dg.AssetsDefinition:
    """The labels that a task's champion contradicts."""
    defaults = SuspicionRecipe()
    what = "Patches whose label the champion confidently contradicts, worst first."

    @task_asset(
        task,
        LABELS,
        what,
        defaults,
        {"pandas", "html"},
        inputs=["labeled_patches", "splits"],
        deps=[asset_key(task, "champion")],
    )
    def suspicious_labels(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
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
        yield made(labels, labels.data_version, metadata, check_labels(labels))

    return suspicious_labels
