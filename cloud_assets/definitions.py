"""The Dagster code location: all tasks, and the products of scenes."""

import os

import dagster as dg

from cloud_assets.orchestration.console import silence_notices
from cloud_assets.orchestration.failure_notifications import failure_sensor
from cloud_assets.orchestration.jobs import demo_job, scene_job
from cloud_assets.orchestration.scene_assets import scene_assets
from cloud_assets.orchestration.scene_automation import champion_sensor, inbox_sensor
from cloud_assets.orchestration.task_component import own_tasks
from cloud_assets.orchestration.task_definitions import task_definitions
from cloud_assets.tasks import ALL_TASKS, cloudsen12_segmentation

silence_notices()

# Waiting threads of OpenMP spin by default: as soon as another process uses one of two cores, a training slows down
# many times over. Read once, when torch is loaded; a value of yours wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

defs = dg.Definitions.merge(
    *map(task_definitions, (*ALL_TASKS, *own_tasks())),
    dg.Definitions(
        assets=dg.with_source_code_references(scene_assets()),
        jobs=[demo_job(cloudsen12_segmentation.TASK), scene_job()],
        sensors=[inbox_sensor, champion_sensor, failure_sensor],
    ),
)
