"""The job of scene products, and the sensor of the inbox."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from cloud_assets.orchestration.automation.automation_settings import run_configuration
from cloud_assets.orchestration.common.console import LOGGER
from cloud_assets.orchestration.common.provenance import DATA_VERSION_TAG
from cloud_assets.orchestration.common.resources import Folders
from cloud_assets.orchestration.lineage.scene_assets import GROUP, RAW_SCENES, SCENE_PRODUCTS, SCENES

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

JOB = "scene_products"
LOOK_EVERY_SECONDS = 30
LONGEST_LOOK_SECONDS = 10.0
MOST_SCENES_A_RUN = 50
_FIRST_TAG, _LAST_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_NEVER_IN_A_KEY = ("...", *map(chr, range(32)))
"""Dagster writes ranges of partitions with three dots, and cannot show control characters."""


def scene_job() -> "UnresolvedAssetJobDefinition":
    """The job that makes the products of the scenes it is given, or of all in the inbox if it is given none."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(SCENE_PRODUCTS),
        description="All products of scenes in the inbox, by all registered champions.",
        config={"loggers": {LOGGER: {"config": {}}}},
        tags={"cloud_assets/task": GROUP},
    )


def inbox_sensor() -> dg.SensorDefinition:
    """The sensor that waits until scenes in the inbox have stopped growing, and has their products made."""

    @dg.sensor(
        name="inbox",
        job_name=JOB,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Makes the products of scenes that are put into the inbox (CLOUD_ASSETS_INBOX, else inbox/ among the "
            "results), once two looks in a row find them unchanged; of a replaced scene, again. Looks at names, "
            "sizes and times only."
        ),
    )
    def inbox(context: dg.SensorEvaluationContext, folders: Folders) -> dg.SensorResult:
        from cloud_assets.scenes.inbox import look_into

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
            run_requests=[run_request(group) for group in neighbours([*known, *new], set(ready))],
            dynamic_partitions_requests=[SCENES.build_add_request(new)] if new else [],
            asset_events=[
                dg.AssetMaterialization(
                    RAW_SCENES,
                    partition=key,
                    metadata={
                        "scene": dg.MetadataValue.path(folders.incoming / key),
                        "files": dg.MetadataValue.int(found.states[key][0]),
                        "size_mb": dg.MetadataValue.float(round(found.states[key][1] / 1e6, 3)),
                    },
                    tags={DATA_VERSION_TAG: "-".join(map(str, found.states[key]))},
                )
                for key in ready
            ],
            cursor=found.cursor,
        )

    return inbox


def neighbours(order: Sequence[str], wanted: set[str]) -> Iterator[list[str]]:
    """The wanted partitions in groups that Dagster can name by the first and the last, for few runs.

    Yields:
        Partitions that follow each other in ``order``, at most :data:`MOST_SCENES_A_RUN`.
    """
    group: list[str] = []
    for key in order:
        if group and (key not in wanted or len(group) == MOST_SCENES_A_RUN):
            yield group
            group = []
        if key in wanted:
            group.append(key)
    if group:
        yield group


def run_request(
    keys: Sequence[str], *, run_key: str | None = None, tags: Mapping[str, str] | None = None
) -> dg.RunRequest:
    """A run of the job for scenes that follow each other, configured as all runs that start by themselves.

    Args:
        keys: The scenes, as :func:`neighbours` groups them.
        run_key: Runs of the same key are started once.
        tags: Tags of the run.
    """
    # Given outright: Dagster leaves a job's own configuration out of runs over several partitions.
    config = run_configuration(JOB)
    if len(keys) == 1:
        return dg.RunRequest(run_key=run_key, run_config=config, partition_key=keys[0], tags=tags)
    tags = {**(tags or {}), _FIRST_TAG: keys[0], _LAST_TAG: keys[-1]}
    return dg.RunRequest(run_key=run_key, run_config=config, tags=tags)
