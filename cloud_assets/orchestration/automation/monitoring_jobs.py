"""Monitoring jobs, and the sensor that trains a task again after severe drift."""

from typing import TYPE_CHECKING

import dagster as dg

from cloud_assets.orchestration.automation.automation_settings import (
    TASK_TAG,
    run_configuration,
    run_tags,
    unfinished_run,
)
from cloud_assets.orchestration.common.console import LOGGER
from cloud_assets.orchestration.lineage.monitoring_assets import DRIFT, LEVEL, monitoring_keys
from cloud_assets.settings import settings
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

_CRON = "0 2 * * *"


def monitoring_job_name(task: Task) -> str:
    """Name of the job that refreshes drift report and suspicious labels."""
    return f"{task.name}_monitoring"


def monitoring_job(task: Task) -> "UnresolvedAssetJobDefinition":
    """Refreshes a task's drift report and list of suspicious labels; it needs a champion."""
    return dg.define_asset_job(
        monitoring_job_name(task),
        selection=dg.AssetSelection.assets(*monitoring_keys(task)),
        description=f"{task.title}: drift of what came in, and labels that should be looked at again.",
        config={"loggers": {LOGGER: {"config": {}}}},
        tags={TASK_TAG: task.name},
    )


def monitoring_schedule(task: Task) -> dg.ScheduleDefinition:
    """Runs the job every night, once switched on."""
    job = monitoring_job_name(task)
    return dg.ScheduleDefinition(
        name=f"{job}_nightly",
        cron_schedule=_CRON,
        job_name=job,
        execution_timezone=settings().timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Looks for drift and suspicious labels of {task.name} at {_CRON} ({settings().timezone}).",
    )


def drift_sensor(task: Task) -> dg.SensorDefinition:
    """Starts the task's job when a drift report is severe, once for each report; off until it is switched on."""
    name = f"{task.name}_retraining_on_drift"

    @dg.asset_sensor(
        asset_key=dg.AssetKey([task.name, DRIFT]),
        name=name,
        job_name=task.name,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Trains {task.name} again when its drift report is severe.",
    )
    def retraining_on_drift(
        context: dg.SensorEvaluationContext, asset_event: dg.EventLogEntry
    ) -> dg.RunRequest | dg.SkipReason:
        found = asset_event.asset_materialization
        level = found.metadata[LEVEL].value if found is not None and LEVEL in found.metadata else "unknown"
        if level != "severe":
            return dg.SkipReason(f"The drift of {task.name} is {level}.")
        # The schedule and other sensors train, too; a training in progress reads the data as they are now.
        waits = unfinished_run(context.instance, task)
        if waits is not None:
            return dg.SkipReason(waits)
        return dg.RunRequest(
            run_key=f"{name} {asset_event.run_id}",
            run_config=run_configuration(task.name),
            tags=run_tags(task, name),
        )

    return retraining_on_drift
