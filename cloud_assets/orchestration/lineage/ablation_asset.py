"""The ablation as an asset with a job of its own, for every task that declares one."""

from collections.abc import Iterator

import dagster as dg

from cloud_assets.families.segmentation.ablation_recipe import AblationRecipe
from cloud_assets.lifecycle.ablation_result import Ablation
from cloud_assets.orchestration.common.asset_parts import common, run_link, upstream
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.metadata import Metadata, figures, measured, table
from cloud_assets.orchestration.common.resources import Folders, Tracking
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task

ABLATION = "ablation"


def ablation_assets(task: Task) -> list[dg.AssetsDefinition]:
    """The task's ablation; none if it declares no ingredients."""
    return [] if task.ablation is None else [_ablation(task, task.ablation)]


def _ablation(task: Task, defaults: AblationRecipe) -> dg.AssetsDefinition:
    key = dg.AssetKey([task.name, ABLATION])

    @dg.asset(
        **common(
            task, ABLATION, "What each ingredient of the training recipe is worth.", defaults, {"pytorch", "html"}
        ),
        config_schema=config_schema(defaults),
        ins={"labeled_patches": upstream(task, "labeled_patches"), "splits": upstream(task, "splits")},
    )
    def ablation(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
    ) -> Iterator[dg.MaterializeResult[Ablation]]:
        from cloud_assets.lifecycle.ablation import ablate, publish

        recipe = from_config(defaults, context.op_execution_context.op_config)
        with measured() as cost:
            found = ablate(task, recipe, labeled_patches, splits, folders.training, tell=context.log.info)
        tags = {"task": task.name, "dagster_run_id": context.run_id}
        run_id = publish(found, folders.training, tracking.tracker(), tags=tags, warn=context.log.warning)
        report = str(folders.results.joinpath(*key.path) / "report.html")
        yield dg.MaterializeResult(
            value=found,
            data_version=dg.DataVersion(found.data_version),
            metadata={**ablation_metadata(found, report), **run_link(tracking, run_id), **cost},
        )

    return ablation


def ablation_metadata(found: Ablation, report: str) -> Metadata:
    """An ablation: its tables side by side, its figures."""
    from cloud_assets.lifecycle.ablation_report import side_by_side

    summary = found.tables["summary"]
    return {
        "report": dg.MetadataValue.path(report),
        "test": table(side_by_side(summary, "test")),
        "hardened": table(side_by_side(summary, "hardened")),
        "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in found.notes)),
        **figures(found.figures, found.captions),
    }
