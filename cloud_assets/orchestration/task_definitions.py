"""All definitions of one task: assets, checks, jobs, schedules and sensors, and what they share with other tasks."""

from typing import Final

import dagster as dg

from cloud_assets.orchestration.automation.data_sensors import data_sensors
from cloud_assets.orchestration.automation.monitoring_jobs import drift_sensor, monitoring_job, monitoring_schedule
from cloud_assets.orchestration.automation.schedules import schedules
from cloud_assets.orchestration.common.console import LOGGER, progress_logger
from cloud_assets.orchestration.common.resources import AssetStore, Folders, Tracking
from cloud_assets.orchestration.lineage.champion_evaluation import champion_evaluation_job
from cloud_assets.orchestration.lineage.jobs import task_job
from cloud_assets.orchestration.lineage.lineage import lineage
from cloud_assets.settings import settings
from cloud_assets.tasks.task import Task

_FOLDERS: Final = Folders()
_RESOURCES: Final = {"folders": _FOLDERS, "tracking": Tracking(), "io_manager": AssetStore(folders=_FOLDERS)}


def task_definitions(task: Task) -> dg.Definitions:
    """What Dagster loads of a task; the definitions of several tasks can be merged."""
    return dg.Definitions(
        assets=dg.with_source_code_references(lineage(task)),
        jobs=[task_job(task), champion_evaluation_job(task), monitoring_job(task)],
        schedules=[*schedules(task), monitoring_schedule(task)],
        sensors=[*data_sensors(task), drift_sensor(task)],
        resources=_RESOURCES,
        loggers={LOGGER: progress_logger},
        # By default one step at a time in one process: two trainings at once on a small machine take many times as long
        # as in turn, and each further process would load torch again.
        executor=dg.multiprocess_executor if settings().executor == "multiprocess" else dg.in_process_executor,
    )
