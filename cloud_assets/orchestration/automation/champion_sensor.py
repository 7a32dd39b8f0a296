"""The sensor of champions: refreshes scene products after a promotion, approval or rollback."""

import json
import time

import dagster as dg

from cloud_assets.orchestration.automation.automation_settings import CAUSE_TAG
from cloud_assets.orchestration.automation.scene_job import JOB, neighbours, run_request
from cloud_assets.orchestration.common.resources import Tracking
from cloud_assets.orchestration.lineage.scene_assets import GROUP, SCENE_PRODUCTS
from cloud_assets.settings import settings
from cloud_assets.tasks import ALL_TASKS

NAME = "champion_changed"
LOOK_EVERY_SECONDS = 30
_DAY = 86_400


def champion_sensor() -> dg.SensorDefinition:
    """The sensor that follows the registry's alias ``champion`` of every task."""

    @dg.sensor(
        name=NAME,
        job_name=JOB,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "When a task's champion is another than before — promoted, approved or rolled back — the products of the "
            "scenes of the last CLOUD_ASSETS_STALE_DAYS days (30) are marked stale and made again."
        ),
    )
    def champion_changed(context: dg.SensorEvaluationContext, tracking: Tracking) -> dg.SensorResult | dg.SkipReason:
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
            return dg.SensorResult(
                skip_reason="These champions are remembered; changes count from now on.", cursor=cursor
            )
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
                run_request(
                    keys,
                    run_key=f"{NAME} {cursor} {number} {int(time.time())}",
                    tags={CAUSE_TAG: NAME},
                )
                for number, keys in enumerate(neighbours(order, stale))
            ],
            asset_events=[
                dg.AssetObservation(SCENE_PRODUCTS, partition=key, metadata={"stale": True, "because": why})
                for key in order
                if key in stale
            ],
            cursor=cursor,
        )

    return champion_changed


def recent_scenes(instance: dg.DagsterInstance, days: int) -> set[str]:
    """The scenes whose products were made in the last days, as far as they are still partitions."""
    known = set(instance.get_dynamic_partitions(GROUP))
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(SCENE_PRODUCTS, after_timestamp=time.time() - days * _DAY), limit=10_000
    ).records
    return {record.partition_key for record in records if record.partition_key in known}
