"""All definitions of one task: assets, checks, jobs, schedules and sensors, and what they share with other tasks."""

from typing import Final

import dagster as dg

from cloud_assets.errors import InvalidRecipe
from cloud_assets.orchestration.automation import schedules, sensors
from cloud_assets.orchestration.champion_assets import (
    champion_asset,
    champion_evaluation_asset,
    comparison_asset,
    drift_report_asset,
    exported_model_asset,
    suspicious_labels_asset,
)
from cloud_assets.orchestration.console import LOGGER, progress_logger
from cloud_assets.orchestration.jobs import task_jobs
from cloud_assets.orchestration.resources import AssetStore, Folders, Tracking
from cloud_assets.orchestration.variant_assets import (
    labeled_patches_asset,
    model_asset,
    raw_scenes_asset,
    report_asset,
    splits_asset,
    study_asset,
)
from cloud_assets.settings import settings
from cloud_assets.tasks.task import Task

_FOLDERS: Final = Folders()
_RESOURCES: Final = {"folders": _FOLDERS, "tracking": Tracking(), "io_manager": AssetStore(folders=_FOLDERS)}


def task_definitions(task: Task) -> dg.Definitions:
    """What Dagster loads of a task; the definitions of several tasks can be merged."""
    return dg.Definitions(
        assets=lineage(task),
        jobs=task_jobs(task),
        schedules=schedules(task),
        sensors=sensors(task),
        resources=_RESOURCES,
        loggers={LOGGER: progress_logger},
        executor=_executor(),
    )


def _executor() -> dg.ExecutorDefinition:
    """What runs the steps of a run.

    By default one step at a time in one process: two trainings at once on a small machine take many times as long as in
    turn, and each further process would load torch again.
    """
    if settings().executor != "ray":
        return dg.multiprocess_executor if settings().executor == "multiprocess" else dg.in_process_executor
    try:
        from dagster_ray import ray_executor
    except ImportError as error:
        said = "CLOUD_ASSETS_EXECUTOR=ray: Ray is not installed: pip install 'cloud-assets[cluster]'."
        raise InvalidRecipe(said) from error
    found: dg.ExecutorDefinition = ray_executor
    return found


def lineage(task: Task) -> list[dg.AssetsDefinition]:
    """All assets of a task, from the raw scenes to the champion."""
    assets = [raw_scenes_asset(task), labeled_patches_asset(task), splits_asset(task)]
    if task.search_space is not None:
        assets.append(study_asset(task))
    for variant in task.variants:
        assets += [model_asset(task, variant), report_asset(task, variant)]
    assets += [comparison_asset(task), champion_asset(task), champion_evaluation_asset(task)]
    if task.export is not None:
        assets.append(exported_model_asset(task, task.export))
    return [*assets, drift_report_asset(task), suspicious_labels_asset(task)]
