"""The declared tasks."""

from collections.abc import Mapping
from types import MappingProxyType

from cloud_assets.tasks import (
    cloud_anomaly,
    cloudsen12_segmentation,
    coverage_classification,
    landsat_segmentation,
    sar_to_optical,
)
from cloud_assets.tasks.task import Task

ALL_TASKS: tuple[Task, ...] = (
    cloudsen12_segmentation.TASK,
    landsat_segmentation.TASK,
    coverage_classification.TASK,
    sar_to_optical.TASK,
    cloud_anomaly.TASK,
)
"""Every task has a lineage and a job; adding one here is all that it takes."""
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in ALL_TASKS})  # the tasks by name
