"""Sensors of a task's data, off until they are switched on: new labelled data, other patches or splits.

The first has patches and splits refreshed, the second has a challenger trained and put up for promotion.
"""

import dagster as dg

from cloud_assets.orchestration.automation.automation_settings import run_configuration, run_tags, unfinished_run
from cloud_assets.orchestration.common.asset_parts import variant_keys
from cloud_assets.orchestration.common.resources import Folders
from cloud_assets.tasks.task import Task

LOOK_EVERY_SECONDS = 30
LONGEST_LOOK_SECONDS = 10.0
_VERSION_TAG = "dagster/data_version"


def data_sensors(task: Task) -> list[dg.SensorDefinition]:
    """A task's sensors of its data."""
    return [_new_labelled_data(task), _data_version_changed(task)]


def data_keys(task: Task) -> list[dg.AssetKey]:
    """The assets of a task's data."""
    return [dg.AssetKey([task.name, name]) for name in ("raw_scenes", "labeled_patches", "splits")]


def challenger_keys(task: Task) -> list[dg.AssetKey]:
    """The assets that make a challenger of the data and put it up for promotion."""
    variants = variant_keys(task, task.required_variants)
    study = [] if task.search_space is None else [dg.AssetKey([task.name, "hyperparameter_study"])]
    export = [] if task.export is None else [dg.AssetKey([task.name, "exported_model"])]
    choice = [dg.AssetKey([task.name, name]) for name in ("comparison", "champion")]
    return [*study, *variants, *choice, *export]


def _new_labelled_data(task: Task) -> dg.SensorDefinition:
    name = f"{task.name}_new_labelled_data"

    @dg.sensor(
        name=name,
        job_name=task.name,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Has patches and splits refreshed when files in {task.dataset.folder}/ of CLOUD_ASSETS_DATA (of the "
            "embedded sample without it) have come, gone or changed, once two looks in a row find them the same. "
            "Looks at names, sizes and times only, at most ten seconds at a time."
        ),
    )
    def new_labelled_data(context: dg.SensorEvaluationContext, folders: Folders) -> dg.SensorResult | dg.SkipReason:
        from cloud_assets.datasets.folder_watch import DATA, look_at_data

        waits = unfinished_run(context.instance, task)
        if waits is not None:
            return dg.SkipReason(waits)
        folder = folders.present_data(task.dataset)
        found = look_at_data(folder, context.cursor, LONGEST_LOOK_SECONDS)
        state = found.states.get(DATA, (0, 0, 0))
        if not found.ready:
            said = f"{folder}: {state[0]} files, nothing new that has stopped changing"
            said += "." if found.is_complete else " so far; the next look goes on."
            return dg.SensorResult(skip_reason=said, cursor=found.cursor)
        request = dg.RunRequest(
            run_key=f"{name} {'-'.join(map(str, state))}-{found.number}",
            run_config=run_configuration(task.name),
            asset_selection=data_keys(task),
            tags=run_tags(task, name),
        )
        return dg.SensorResult(run_requests=[request], cursor=found.cursor)

    return new_labelled_data


def _data_version_changed(task: Task) -> dg.SensorDefinition:
    name = f"{task.name}_data_version_changed"

    @dg.sensor(
        name=name,
        job_name=task.name,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Has a challenger trained, compared with the champion on the same test split and promoted if it is better, "
            "when the data version of patches or splits has changed and no other run has done so already."
        ),
    )
    def data_version_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        waits = unfinished_run(context.instance, task)
        if waits is not None:
            return dg.SkipReason(waits)
        _, patches, splits = (context.instance.get_latest_materialization_event(key) for key in data_keys(task))
        if patches is None or splits is None:
            return dg.SkipReason(f"{task.name} has no patches and splits yet.")
        if splits.timestamp < patches.timestamp:
            return dg.SkipReason(f"The splits of {task.name} are older than its patches: materialise them first.")
        versions = " ".join(_version(event) for event in (patches, splits))
        if versions == context.cursor:
            return dg.SkipReason("Patches and splits are those that a challenger was last trained on.")
        compared = context.instance.get_latest_materialization_event(dg.AssetKey([task.name, "comparison"]))
        if compared is not None and compared.timestamp > splits.timestamp:
            said = "A run that refreshed patches and splits has trained on them, too."
            return dg.SensorResult(skip_reason=said, cursor=versions)
        request = dg.RunRequest(
            run_key=f"{name} {versions} {splits.run_id}",
            run_config=run_configuration(task.name),
            asset_selection=challenger_keys(task),
            tags=run_tags(task, name),
        )
        return dg.SensorResult(run_requests=[request], cursor=versions)

    return data_version_changed


def _version(event: dg.EventLogEntry) -> str:
    materialization = event.asset_materialization
    tags = {} if materialization is None else materialization.tags or {}
    return str(tags.get(_VERSION_TAG, event.timestamp))
