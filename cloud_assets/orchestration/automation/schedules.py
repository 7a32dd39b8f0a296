"""Schedules, all off until they are switched on: retraining a task, judging its champion on fresh labelled data.

A run's key is the instant of its tick, so that a tick that is evaluated twice (the daemon was restarted, the clock was
set back) starts one run.
"""

from datetime import UTC

import dagster as dg

from cloud_assets.orchestration.automation.automation_settings import (
    evaluation_cron,
    retraining_cron,
    run_configuration,
    run_tags,
    unfinished_run,
)
from cloud_assets.orchestration.lineage.champion_evaluation import champion_evaluation_job_name
from cloud_assets.settings import settings
from cloud_assets.tasks.task import Task


def schedules(task: Task) -> list[dg.ScheduleDefinition]:
    """A task's schedules."""
    return [
        _schedule(
            task,
            f"{task.name}_retraining",
            task.name,
            retraining_cron(task),
            "Runs the task's job. Scenes are read again; with nothing new the trained models are reused, else they are "
            "trained anew and the best one is put up for promotion.",
        ),
        _schedule(
            task,
            f"{task.name}_nightly_evaluation",
            champion_evaluation_job_name(task),
            evaluation_cron(task),
            "Reads the labelled data again and judges the present champion on the test split that they make.",
        ),
    ]


def _schedule(task: Task, name: str, job: str, cron: str, what: str) -> dg.ScheduleDefinition:
    zone = settings().timezone

    @dg.schedule(
        cron,
        name=name,
        job_name=job,
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"{what} At {cron} ({zone}).",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        # Only its own job: a weekly tick that gave way to a nightly run would be lost for a week.
        waits = unfinished_run(context.instance, task, job)
        if waits is not None:
            return dg.SkipReason(waits)
        instant = context.scheduled_execution_time.astimezone(UTC).isoformat()
        return dg.RunRequest(run_key=f"{name} {instant}", run_config=run_configuration(job), tags=run_tags(task, name))

    return tick
