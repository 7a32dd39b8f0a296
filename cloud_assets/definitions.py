"""The only place where everything is put together: what Dagster loads. Nothing heavy is imported here."""

import os

import dagster as dg

from cloud_assets.orchestration.automation.champion_sensor import champion_sensor
from cloud_assets.orchestration.automation.data_sensors import data_sensors
from cloud_assets.orchestration.automation.failure_notifications import failure_sensor
from cloud_assets.orchestration.automation.monitoring_jobs import drift_sensor, watching_job, watching_schedule
from cloud_assets.orchestration.automation.scene_job import inbox_sensor, scene_job
from cloud_assets.orchestration.automation.schedules import schedules
from cloud_assets.orchestration.common.console import LOGGER, progress_logger, silence_notices
from cloud_assets.orchestration.common.resources import AssetStore, Folders, Tracking
from cloud_assets.orchestration.lineage.champion_evaluation import champion_evaluation_job
from cloud_assets.orchestration.lineage.jobs import demo_job, task_job
from cloud_assets.orchestration.lineage.lineage import lineage
from cloud_assets.orchestration.lineage.scene_assets import scene_assets
from cloud_assets.settings import settings
from cloud_assets.tasks import ALL_TASKS, cloudsen12_segmentation

silence_notices()

# Waiting threads of OpenMP spin by default: as soon as another process wants one of two cores, a training slows down
# many times over. Read once, when torch is loaded; a value of yours wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_folders = Folders()

defs = dg.Definitions(
    assets=dg.with_source_code_references([*(asset for task in ALL_TASKS for asset in lineage(task)), *scene_assets()]),
    jobs=[
        *(task_job(task) for task in ALL_TASKS),
        demo_job(cloudsen12_segmentation.TASK),
        scene_job(),
        *(champion_evaluation_job(task) for task in ALL_TASKS),
        *(watching_job(task) for task in ALL_TASKS),
    ],
    schedules=[
        *(schedule for task in ALL_TASKS for schedule in schedules(task)),
        *(watching_schedule(task) for task in ALL_TASKS),
    ],
    sensors=[
        inbox_sensor(),
        *(sensor for task in ALL_TASKS for sensor in data_sensors(task)),
        champion_sensor(),
        *(drift_sensor(task) for task in ALL_TASKS),
        failure_sensor(),
    ],
    resources={"folders": _folders, "tracking": Tracking(), "io_manager": AssetStore(folders=_folders)},
    loggers={LOGGER: progress_logger},
    # By default one step at a time in one process: two trainings at once on a small machine take many times as long as
    # in turn, and each further process would load torch again.
    executor=dg.multiprocess_executor if settings().executor == "multiprocess" else dg.in_process_executor,
)
