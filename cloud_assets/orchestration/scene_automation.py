"""Sensors of scenes: new ones in the inbox, and champions that are others than before."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import dagster as dg

from cloud_assets.orchestration.asset_parts import DATA_VERSION_TAG
from cloud_assets.orchestration.automation import CAUSE_TAG, LONGEST_LOOK_SECONDS, OFF, run_configuration
from cloud_assets.orchestration.jobs import SCENE_JOB
from cloud_assets.orchestration.resources import Folders, Tracking
from cloud_assets.orchestration.scene_assets import GROUP, RAW_SCENES, SCENE_PRODUCTS, SCENES
from cloud_assets.settings import settings
from cloud_assets.tasks import ALL_TASKS

CHAMPION_CHANGED = "champion_changed"
_FIRST_TAG, _LAST_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_NEVER_IN_A_KEY = ("...", *map(chr, range(32)))
"""Dagster writes ranges of partitions with three dots, and cannot show control characters."""
_DAY = 86_400


@dg.sensor(
    name="inbox",
    job_name=SCENE_JOB,
    description=(
        "Makes the products of scenes that are put into the inbox (CLOUD_ASSETS_INBOX, else inbox/ among the "
        "results), once two looks in a row find them unchanged; of a replaced scene, again. Looks at names, "
        "sizes and times only."
    ),
    **OFF,
)
def inbox_sensor(context: dg.SensorEvaluationContext, folders: Folders) -> dg.SensorResult:
    """The sensor that waits until scenes in the inbox have stopped growing, and has their products made."""
    from cloud_assets.scenes.batch import look_into

    found = look_into(folders.incoming, context.cursor, LONGEST_LOOK_SECONDS)
    ready = [key for key in found.ready if not any(part in key for part in _NEVER_IN_A_KEY)]
    for key in set(found.ready) - set(ready):
        context.log.warning(f"{key!r} is left out: three dots or a control character cannot be in a name.")
    if not ready:
        said = f"No scene has arrived in {folders.incoming} and stopped growing since the last look."
        return dg.SensorResult(skip_reason=said, cursor=found.cursor)
    known = context.instance.get_dynamic_partitions(GROUP)
    new = [key for key in ready if key not in set(known)]
    return dg.SensorResult(
        run_requests=[_run(group) for group in neighbours([*known, *new], set(ready))],
        dynamic_partitions_requests=[SCENES.build_add_request(new)] if new else [],
        asset_events=[
            dg.AssetMaterialization(
                RAW_SCENES,
                partition=key,
                metadata={
                    "scene": folders.incoming / key,
                    "files": found.states[key][0],
                    "size_mb": round(found.states[key][1] / 1e6, 3),
                },
                tags={DATA_VERSION_TAG: "-".join(map(str, found.states[key]))},
            )
            for key in ready
        ],
        cursor=found.cursor,
    )


@dg.sensor(
    name=CHAMPION_CHANGED,
    job_name=SCENE_JOB,
    description=(
        "When a task's champion is another than before — promoted, approved or rolled back — the products of the "
        "scenes of the last CLOUD_ASSETS_STALE_DAYS days (30) are marked stale and made again."
    ),
    **OFF,
)
def champion_sensor(context: dg.SensorEvaluationContext, tracking: Tracking) -> dg.SensorResult | dg.SkipReason:
    """The sensor that follows the registry's alias ``champion`` of every task."""
    from cloud_assets.errors import TrackingUnavailable
    from cloud_assets.lifecycle.promotion import CHAMPION

    tracker = tracking.tracker()
    try:
        found = {task.name: tracker.version_at(task.name, CHAMPION) for task in ALL_TASKS}
    except TrackingUnavailable as error:
        return dg.SkipReason(str(error))
    now = {name: version.version for name, version in found.items() if version is not None}
    before = json.loads(context.cursor) if context.cursor else None
    cursor = json.dumps(now)
    if before is None:
        said = "These champions are remembered; changes count from now on."
        return dg.SensorResult(skip_reason=said, cursor=cursor)
    changed = {name: version for name, version in now.items() if before.get(name) != version}
    if not changed:
        return dg.SensorResult(skip_reason="Every champion is the one that it was.", cursor=cursor)
    why = ", ".join(f"{name}: {before.get(name, 'none')} → {version}" for name, version in changed.items())
    stale = recent_scenes(context.instance, settings().stale_days)
    if not stale:
        return dg.SensorResult(skip_reason=f"Champions changed ({why}); no scene is recent enough.", cursor=cursor)
    order = context.instance.get_dynamic_partitions(GROUP)
    return dg.SensorResult(
        run_requests=[
            _run(
                keys, run_key=f"{CHAMPION_CHANGED} {cursor} {n} {int(time.time())}", tags={CAUSE_TAG: CHAMPION_CHANGED}
            )
            for n, keys in enumerate(neighbours(order, stale))
        ],
        asset_events=[
            dg.AssetObservation(SCENE_PRODUCTS, partition=key, metadata={"stale": True, "because": why})
            for key in order
            if key in stale
        ],
        cursor=cursor,
    )


def recent_scenes(instance: dg.DagsterInstance, days: int) -> set[str]:
    """The scenes whose products were made in the last days, as far as they are still partitions."""
    known = set(instance.get_dynamic_partitions(GROUP))
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(SCENE_PRODUCTS, after_timestamp=time.time() - days * _DAY), limit=10_000
    ).records
    return {record.partition_key for record in records if record.partition_key in known}


def neighbours(order: Sequence[str], wanted: set[str]) -> Iterator[list[str]]:
    """The wanted partitions in groups that follow each other in ``order``, at most ``CLOUD_ASSETS_SCENES_A_RUN`` each.

    Dagster can name such a group by its first and last partition, so few runs are enough.
    """
    most = settings().scenes_a_run
    for is_wanted, keys in groupby(order, wanted.__contains__):
        group = list(keys) if is_wanted else []
        yield from (group[start : start + most] for start in range(0, len(group), most))


def _run(keys: Sequence[str], *, run_key: str | None = None, tags: Mapping[str, str] | None = None) -> dg.RunRequest:
    """A run of the job for scenes that :func:`neighbours` groups, configured as all runs that start by themselves."""
    # Given outright: Dagster leaves a job's own configuration out of runs over several partitions.
    config = run_configuration(SCENE_JOB)
    if len(keys) == 1:
        return dg.RunRequest(run_key=run_key, run_config=config, partition_key=keys[0], tags=tags)
    tags = {**(tags or {}), _FIRST_TAG: keys[0], _LAST_TAG: keys[-1]}
    return dg.RunRequest(run_key=run_key, run_config=config, tags=tags)
