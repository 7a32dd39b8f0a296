"""The lineage of a task: raw scenes, patches, splits, models, evaluations, comparison, champion."""

import dagster as dg

from cloud_assets.orchestration.lineage.champion_evaluation import champion_evaluation_asset
from cloud_assets.orchestration.lineage.choice_assets import champion_asset, comparison_asset
from cloud_assets.orchestration.lineage.data_assets import labeled_patches_asset, raw_scenes_asset, splits_asset
from cloud_assets.orchestration.lineage.export_asset import export_assets
from cloud_assets.orchestration.lineage.monitoring_assets import monitoring_assets
from cloud_assets.orchestration.lineage.study_asset import study_assets
from cloud_assets.orchestration.lineage.variant_assets import model_asset, report_asset
from cloud_assets.tasks.task import Task


def lineage(task: Task) -> list[dg.AssetsDefinition]:
    """All assets of a task.

    Returns:
        Its assets, from the raw scenes to the champion.
    """
    assets = [raw_scenes_asset(task), labeled_patches_asset(task), splits_asset(task), *study_assets(task)]
    for variant in task.variants:
        assets += [model_asset(task, variant), report_asset(task, variant)]
    return [
        *assets,
        comparison_asset(task),
        champion_asset(task),
        champion_evaluation_asset(task),
        *export_assets(task),
        *monitoring_assets(task),
    ]
