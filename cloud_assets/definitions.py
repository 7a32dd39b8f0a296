"""The only place where everything is put together: what Dagster loads. Nothing heavy is imported here."""

import dagster as dg

from cloud_assets.orchestration.console import LOGGER, progress_logger, silence_notices
from cloud_assets.orchestration.jobs import demo_job, task_job
from cloud_assets.orchestration.lineage import lineage
from cloud_assets.orchestration.resources import AssetStore, Folders, Tracking
from cloud_assets.orchestration.scene_assets import scene_assets
from cloud_assets.orchestration.scene_job import inbox_sensor, scene_job
from cloud_assets.tasks import ALL_TASKS, cloudsen12_segmentation

silence_notices()

_folders = Folders()

defs = dg.Definitions(
    assets=[*(asset for task in ALL_TASKS for asset in lineage(task)), *scene_assets()],
    jobs=[*(task_job(task) for task in ALL_TASKS), demo_job(cloudsen12_segmentation.TASK), scene_job()],
    sensors=[inbox_sensor()],
    resources={"folders": _folders, "tracking": Tracking(), "io_manager": AssetStore(folders=_folders)},
    loggers={LOGGER: progress_logger},
    # One step at a time in one process: two trainings at once on a small machine take many times as long as in turn,
    # and each further process would load torch again.
    executor=dg.in_process_executor,
)
