"""Monitoring assets: drift of incoming data, suspicious labels."""

from collections.abc import Iterator

import dagster as dg

from cloud_assets.errors import InvalidReport
from cloud_assets.lifecycle.drift_report import CAPTIONS as DRIFT_CAPTIONS
from cloud_assets.lifecycle.drift_report import DriftReport, batch_table
from cloud_assets.lifecycle.drift_statistics import DriftRecipe
from cloud_assets.lifecycle.suspicious_labels import CAPTIONS as LABEL_CAPTIONS
from cloud_assets.lifecycle.suspicious_labels import SuspicionRecipe, SuspiciousLabels
from cloud_assets.orchestration.common.asset_parts import common, upstream
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.io_manager import AssetFolders
from cloud_assets.orchestration.common.metadata import Metadata, figures, measured, table
from cloud_assets.orchestration.common.resources import Folders, Tracking
from cloud_assets.orchestration.lineage.scene_assets import SCENE_PRODUCTS
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task

DRIFT, LABELS = "drift_report", "suspicious_labels"
LEVEL = "level"
"""Metadata of a drift report: steady, warning or severe."""
_SHOWN_ROWS = 30
NO_DRIFT, NO_SEVERE_DRIFT = "no_drift", "no_severe_drift"
SUSPICION = 0.5
"""From here on a label is a case for the labelling team: half of a patch's cloud is contradicted, or half a margin."""


def monitoring_keys(task: Task) -> list[dg.AssetKey]:
    """Keys of the assets, which the task's own job leaves out: they look at a champion that is there already."""
    return [dg.AssetKey([task.name, name]) for name in (DRIFT, LABELS)]


def monitoring_assets(task: Task) -> list[dg.AssetsDefinition]:
    """A task's drift report and its list of suspicious labels."""
    return [_drift_report(task), _suspicious_labels(task)]


def _drift_report(task: Task) -> dg.AssetsDefinition:
    key, defaults = dg.AssetKey([task.name, DRIFT]), DriftRecipe()

    @dg.asset(
        **common(
            task,
            DRIFT,
            "New scenes and patches against the data that the champion was trained with.",
            defaults,
            {"scipy", "html"},
        ),
        config_schema=config_schema(defaults),
        check_specs=drift_checks(key),
        deps=[dg.AssetKey([task.name, "champion"]), SCENE_PRODUCTS],
        ins={"labeled_patches": upstream(task, "labeled_patches")},
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        io_manager: dg.ResourceParam[AssetFolders],
        labeled_patches: PatchStore,
    ) -> Iterator[dg.MaterializeResult[DriftReport]]:
        from cloud_assets.lifecycle.drift import drift_report as report_on_drift
        from cloud_assets.lifecycle.registered_champions import registered_champions

        recipe = from_config(defaults, context.op_execution_context.op_config)
        (champion,) = registered_champions(tracking.tracker(), [task]).bundles
        try:
            previous = io_manager.find(key.path, DriftReport)
        except InvalidReport as error:
            context.log.warning(f"A new report is begun: {error}")
            previous = None
        with measured() as cost:
            report = report_on_drift(task.name, champion, labeled_patches, folders.scenes, previous, recipe)
        for note in report.notes:
            context.log.info(note)
        yield dg.MaterializeResult(
            value=report,
            data_version=dg.DataVersion(report.data_version),
            metadata={**_drift_metadata(report, str(folders.results.joinpath(*key.path) / "report.html")), **cost},
            check_results=check_drift(report),
        )

    return drift_report


def _suspicious_labels(task: Task) -> dg.AssetsDefinition:
    key, defaults = dg.AssetKey([task.name, LABELS]), SuspicionRecipe()

    @dg.asset(
        **common(
            task,
            LABELS,
            "Patches whose label the champion confidently contradicts, worst first.",
            defaults,
            {"pandas", "html"},
        ),
        config_schema=config_schema(defaults),
        check_specs=label_checks(key),
        deps=[dg.AssetKey([task.name, "champion"])],
        ins={"labeled_patches": upstream(task, "labeled_patches"), "splits": upstream(task, "splits")},
    )
    def suspicious_labels(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
    ) -> Iterator[dg.MaterializeResult[SuspiciousLabels]]:
        from cloud_assets.lifecycle.registered_champions import registered_champions
        from cloud_assets.lifecycle.suspicious_labels import suspicious_labels as doubted

        recipe = from_config(defaults, context.op_execution_context.op_config)
        (champion,) = registered_champions(tracking.tracker(), [task]).bundles
        with measured() as cost:
            labels = doubted(champion, labeled_patches, splits, recipe)
        yield dg.MaterializeResult(
            value=labels,
            data_version=dg.DataVersion(labels.data_version),
            metadata={**_label_metadata(labels, str(folders.results.joinpath(*key.path))), **cost},
            check_results=check_labels(labels),
        )

    return suspicious_labels


def _drift_metadata(report: DriftReport, page: str) -> Metadata:
    return {
        LEVEL: dg.MetadataValue.text(report.level),
        "batches": dg.MetadataValue.int(len(report.batches)),
        "smallest_p_value": dg.MetadataValue.float(min((batch.p_value for batch in report.latest), default=1.0)),
        "report": dg.MetadataValue.path(page),
        **({"latest_batches": table(batch_table(report).head(_SHOWN_ROWS))} if report.batches else {}),
        **({} if report.features is None else {"features": table(report.features.head(_SHOWN_ROWS))}),
        **figures(report.figures, DRIFT_CAPTIONS),
        **({"notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in report.notes))} if report.notes else {}),
    }


def _label_metadata(labels: SuspiciousLabels, folder: str) -> Metadata:
    return {
        "looked_at": dg.MetadataValue.int(labels.looked_at),
        "learnt_from": dg.MetadataValue.int(labels.learnt_from),
        "listed": dg.MetadataValue.int(len(labels.table)),
        "list": dg.MetadataValue.path(f"{folder}/tables/suspicious_labels.parquet"),
        "report": dg.MetadataValue.path(f"{folder}/report.html"),
        **({"first": table(labels.table.head(_SHOWN_ROWS).drop(columns="source"))} if len(labels.table) else {}),
        **figures(labels.figures, LABEL_CAPTIONS),
        "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in labels.notes)),
    }


def drift_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of a drift report."""
    return [
        dg.AssetCheckSpec(NO_DRIFT, asset=asset, description="New data look like the training data."),
        dg.AssetCheckSpec(
            NO_SEVERE_DRIFT,
            asset=asset,
            description="New data are not so different that the task should be trained again. The sensor "
            "<task>_retraining_on_drift, if switched on, does that.",
        ),
    ]


def check_drift(report: DriftReport) -> list[dg.AssetCheckResult]:
    """Results of :func:`drift_checks`: what the last batches say, not older ones."""
    said = "; ".join(
        f"{batch.name}: {batch.level}, p {batch.p_value:.3g}, {batch.feature} D {batch.ks:.2f}, PSI {batch.psi:.2f}"
        for batch in report.latest
    )
    said = said or " ".join(report.notes) or "nothing new"
    advice = " Label some of the new data and train again: the same labels make the same model."
    severe = report.level == "severe"
    return [
        dg.AssetCheckResult(
            check_name=NO_DRIFT,
            passed=report.level == "steady" and not report.is_blind,
            severity=dg.AssetCheckSeverity.WARN,
            description=said,
        ),
        dg.AssetCheckResult(
            check_name=NO_SEVERE_DRIFT,
            passed=not severe,
            severity=dg.AssetCheckSeverity.ERROR,
            description=said + advice if severe else said,
            metadata={"retraining_requested": severe},
        ),
    ]


def label_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of a list of suspicious labels."""
    what = f"No label is contradicted with a suspicion of {SUSPICION:g} or more."
    return [dg.AssetCheckSpec("labels_agree", asset=asset, description=what)]


def check_labels(labels: SuspiciousLabels) -> list[dg.AssetCheckResult]:
    """Results of :func:`label_checks`."""
    doubted = labels.table.loc[labels.table["suspicion"] >= SUSPICION, "patch_id"].tolist()
    said = f"{len(doubted)} of {labels.looked_at} labels" + (f": {', '.join(doubted[:10])}" if doubted else "")
    return [
        dg.AssetCheckResult(
            check_name="labels_agree", passed=not doubted, severity=dg.AssetCheckSeverity.WARN, description=said
        )
    ]
