"""A task's schedules and sensors, all off until they are switched on.

Schedules train it again, judge its champion on fresh labelled data, and look for drift. Sensors refresh patches and
splits when labelled data are new, train a challenger when patches or splits are others, and train after severe drift.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import dagster as dg

from cloud_assets.lifecycle.study import STUDY
from cloud_assets.orchestration.asset_parts import DATA_VERSION_TAG, asset_key, variant_keys
from cloud_assets.orchestration.champion_assets import DRIFT, EXPORTED, LEVEL
from cloud_assets.orchestration.console import LOGGER
from cloud_assets.orchestration.jobs import DATA, TASK_TAG, champion_evaluation_job_name, monitoring_job_name
from cloud_assets.orchestration.resources import Folders
from cloud_assets.settings import settings
from cloud_assets.tasks import ALL_TASKS
from cloud_assets.tasks.task import Task

CAUSE_TAG = "cloud_assets/started_by"  # tag of runs that started by themselves: the schedule or sensor
LONGEST_LOOK_SECONDS = 10.0
OFF: Mapping[str, Any] = {"minimum_interval_seconds": 30, "default_status": dg.DefaultSensorStatus.STOPPED}
"""Arguments of sensors that look every half minute, once they are switched on."""
_MONITORING_CRON = "0 2 * * *"
_UNFINISHED = [status for status in dg.DagsterRunStatus if status.value not in ("SUCCESS", "FAILURE", "CANCELED")]


def retraining_cron(task: Task) -> str:
    """When a task is trained again: each on a day of the week of its own, at three, unless the environment says."""
    names = [other.name for other in ALL_TASKS]
    day = names.index(task.name) % 7 if task.name in names else 0
    return settings().cron("retraining_cron", task.name, f"0 3 * * {day}")


def evaluation_cron(task: Task) -> str:
    """When a task's champion is evaluated: every night at one, unless the environment says."""
    return settings().cron("evaluation_cron", task.name, "0 1 * * *")


def run_configuration(job: str) -> dict[str, Any]:
    """The configuration of runs that start by themselves: ``<job>.yaml`` in ``CLOUD_ASSETS_RUN_CONFIGS``, if there."""
    config: dict[str, Any] = {"loggers": {LOGGER: {"config": {}}}}
    folder = settings().run_configs
    path = None if folder is None else folder / f"{job}.yaml"
    return {**config, **dg.config_from_files([str(path)])} if path is not None and path.is_file() else config


def schedules(task: Task) -> list[dg.ScheduleDefinition]:
    """A task's schedules."""
    monitoring = monitoring_job_name(task)
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
        _schedule(
            task, f"{monitoring}_nightly", monitoring, _MONITORING_CRON, "Looks for drift and for suspicious labels."
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
        waits = _unfinished_run(context.instance, task, job)
        if waits is not None:
            return dg.SkipReason(waits)
        # The instant of the tick, so that one that is evaluated twice (daemon restarted, clock set back) starts one.
        instant = context.scheduled_execution_time.astimezone(UTC).isoformat()
        return _request(task, name, instant, job)

    return tick


def sensors(task: Task) -> list[dg.SensorDefinition]:
    """A task's sensors."""
    return [_new_labelled_data(task), _data_version_changed(task), _retraining_on_drift(task)]


def _new_labelled_data(task: Task) -> dg.SensorDefinition:
    name = f"{task.name}_new_labelled_data"

    @dg.sensor(
        name=name,
        job_name=task.name,
        description=(
            f"Has patches and splits refreshed when files in {task.dataset.folder}/ of CLOUD_ASSETS_DATA (of the "
            "embedded sample without it) have come, gone or changed, once two looks in a row find them the same. "
            "Looks at names, sizes and times only, at most ten seconds at a time."
        ),
        **OFF,
    )
    def new_labelled_data(context: dg.SensorEvaluationContext, folders: Folders) -> dg.SensorResult | dg.SkipReason:
        from cloud_assets.datasets.folder_watch import DATA as EVERYTHING
        from cloud_assets.datasets.folder_watch import look_at_data

        waits = _unfinished_run(context.instance, task)
        if waits is not None:
            return dg.SkipReason(waits)
        folder = folders.present_data(task.dataset)
        found = look_at_data(folder, context.cursor, LONGEST_LOOK_SECONDS)
        state = found.states.get(EVERYTHING, (0, 0, 0))
        if not found.ready:
            said = f"{folder}: {state[0]} files, nothing new that has stopped changing"
            said += "." if found.is_complete else " so far; the next look goes on."
            return dg.SensorResult(skip_reason=said, cursor=found.cursor)
        key = f"{'-'.join(map(str, state))}-{found.number}"
        return dg.SensorResult(
            run_requests=[_request(task, name, key, selection=[asset_key(task, one) for one in DATA])],
            cursor=found.cursor,
        )

    return new_labelled_data


def _data_version_changed(task: Task) -> dg.SensorDefinition:
    name = f"{task.name}_data_version_changed"
    study = [] if task.search_space is None else [asset_key(task, STUDY)]
    export = [] if task.export is None else [asset_key(task, EXPORTED)]
    choice = [asset_key(task, one) for one in ("comparison", "champion")]
    challenger = [*study, *variant_keys(task, task.required_variants), *choice, *export]

    @dg.sensor(
        name=name,
        job_name=task.name,
        description=(
            "Has a challenger trained, compared with the champion on the same test split and promoted if it is better, "
            "when the data version of patches or splits has changed and no other run has done so already."
        ),
        **OFF,
    )
    def data_version_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        waits = _unfinished_run(context.instance, task)
        if waits is not None:
            return dg.SkipReason(waits)
        patches, splits, compared = (
            context.instance.get_latest_materialization_event(asset_key(task, one))
            for one in ("labeled_patches", "splits", "comparison")
        )
        if patches is None or splits is None:
            return dg.SkipReason(f"{task.name} has no patches and splits yet.")
        if splits.timestamp < patches.timestamp:
            return dg.SkipReason(f"The splits of {task.name} are older than its patches: materialise them first.")
        versions = f"{_version(patches)} {_version(splits)}"
        if versions == context.cursor:
            return dg.SkipReason("Patches and splits are those that a challenger was last trained on.")
        if compared is not None and compared.timestamp > splits.timestamp:
            said = "A run that refreshed patches and splits has trained on them, too."
            return dg.SensorResult(skip_reason=said, cursor=versions)
        request = _request(task, name, f"{versions} {splits.run_id}", selection=challenger)
        return dg.SensorResult(run_requests=[request], cursor=versions)

    return data_version_changed


def _retraining_on_drift(task: Task) -> dg.SensorDefinition:
    name = f"{task.name}_retraining_on_drift"

    @dg.asset_sensor(
        asset_key=asset_key(task, DRIFT),
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
        waits = _unfinished_run(context.instance, task)
        return _request(task, name, asset_event.run_id) if waits is None else dg.SkipReason(waits)

    return retraining_on_drift


def _request(
    task: Task, cause: str, key: str, job: str | None = None, selection: Sequence[dg.AssetKey] | None = None
) -> dg.RunRequest:
    """A run of the task's own or another job that a schedule or sensor starts, once for each key."""
    return dg.RunRequest(
        run_key=f"{cause} {key}",
        run_config=run_configuration(job or task.name),
        asset_selection=selection,
        tags={TASK_TAG: task.name, CAUSE_TAG: cause},
    )


def _unfinished_run(instance: dg.DagsterInstance, task: Task, job: str | None = None) -> str | None:
    """A sentence about a run of the task that waits or is in progress: another one would only get in its way."""
    wanted = dg.RunsFilter(job_name=job, tags={TASK_TAG: task.name}, statuses=_UNFINISHED)
    runs = instance.get_run_records(wanted, limit=1)
    return f"Waits for run {runs[0].dagster_run.run_id} of {task.name}, which is not finished." if runs else None


def _version(event: dg.EventLogEntry) -> str:
    materialization = event.asset_materialization
    tags = {} if materialization is None else materialization.tags or {}
    return str(tags.get(DATA_VERSION_TAG, event.timestamp))
