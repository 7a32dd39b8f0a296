"""Schedules, configuration and tags of runs that schedules and sensors start."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from cloud_assets.orchestration.common.console import LOGGER
from cloud_assets.settings import settings
from cloud_assets.tasks import ALL_TASKS
from cloud_assets.tasks.task import Task

TASK_TAG = "cloud_assets/task"
"""Tag of every run: the task that it is about."""
CAUSE_TAG = "cloud_assets/started_by"
"""Tag of runs that started by themselves: the schedule or sensor."""

_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def retraining_cron(task: Task) -> str:
    """When a task is trained again: each on a day of the week of its own, at three, unless the environment says."""
    names = [other.name for other in ALL_TASKS]
    day = names.index(task.name) % 7 if task.name in names else 0
    return settings().cron("retraining_cron", task.name, f"0 3 * * {day}")


def evaluation_cron(task: Task) -> str:
    """When a task's champion is evaluated: every night at one, unless the environment says."""
    return settings().cron("evaluation_cron", task.name, "0 1 * * *")


def run_configuration(job: str) -> dict[str, Any]:
    """The configuration of runs that start by themselves.

    Returns:
        The content of ``<job>.yaml`` in the folder ``CLOUD_ASSETS_RUN_CONFIGS``; the job's defaults without one.

    Raises:
        InvalidRecipe: If the folder is not there.
    """
    config: dict[str, Any] = {"loggers": {LOGGER: {"config": {}}}}
    folder = settings().run_configs
    path = None if folder is None else folder / f"{job}.yaml"
    return {**config, **dg.config_from_files([str(path)])} if path is not None and path.is_file() else config


def run_tags(task: Task, cause: str) -> Mapping[str, str]:
    """Tags of a run that started by itself."""
    return {TASK_TAG: task.name, CAUSE_TAG: cause}


def unfinished_run(instance: dg.DagsterInstance, task: Task, job: str | None = None) -> str | None:
    """A run of the task that waits or is in progress: another one would only get in its way.

    Returns:
        One sentence about it; None if there is none.
    """
    wanted = dg.RunsFilter(job_name=job, tags={TASK_TAG: task.name}, statuses=_UNFINISHED)
    runs = instance.get_run_records(wanted, limit=1)
    if not runs:
        return None
    return f"Waits for run {runs[0].dagster_run.run_id} of {task.name}, which is not finished."


def when_dependencies_change(optional: Sequence[str] = ()) -> dg.AutomationCondition[Any]:
    """Declarative automation: once another data version of a dependency is there and nothing upstream is running."""
    condition = dg.AutomationCondition
    champions = dg.AssetSelection.assets(*(dg.AssetKey([name, "champion"]) for name in optional))
    return (
        condition.any_deps_match(condition.data_version_changed()).since_last_handled()
        & ~condition.in_progress()
        & ~condition.any_deps_in_progress()
        & ~(condition.any_deps_missing().ignore(champions) if optional else condition.any_deps_missing())
    )
