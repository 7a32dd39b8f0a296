"""The assets of scenes: the inbox, and the products of each scene."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import dagster as dg

from cloud_assets.errors import InvalidScene
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.provenance import provenance_tags
from cloud_assets.orchestration.common.resources import Folders, Tracking
from cloud_assets.orchestration.lineage.scene_metadata import scene_check_results, scene_check_specs, scene_metadata
from cloud_assets.scenes.inbox import scene_keys
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.tasks import ALL_TASKS

GROUP = "scenes"
SCENES = dg.DynamicPartitionsDefinition(name=GROUP)
"""One partition a scene, named as its file or folder in the inbox."""
RAW_SCENES = dg.AssetKey([GROUP, "raw_scenes"])
SCENE_PRODUCTS = dg.AssetKey([GROUP, "scene_products"])
_VERSION = "1"
"""Raised when products of the same options would come out differently than before."""
_OPTIONS = SceneOptions()
_PRODUCTS_CONFIG = {
    **config_schema(_OPTIONS),
    "bands": dg.Field(
        dg.Noneable([str]),
        default_value=None,
        is_required=False,
        description="Bands of raster files that do not tell them, in order.",
    ),
    "instrument": dg.Field(
        dg.Noneable(str),
        default_value=None,
        is_required=False,
        description="Instrument of raster files that do not tell it.",
    ),
    "scale": dg.Field(
        dg.Noneable(float),
        default_value=None,
        is_required=False,
        description="Reflectance a number of raster files that do not tell it.",
    ),
    "offset": dg.Field(
        dg.Noneable(float), default_value=None, is_required=False, description="Added to it, in reflectance."
    ),
}


class _Common(TypedDict):
    group_name: str
    tags: dict[str, str]
    owners: list[str]
    code_version: str
    partitions_def: dg.DynamicPartitionsDefinition


def scene_assets() -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The inbox and the products."""
    raw_scenes = dg.AssetSpec(
        RAW_SCENES,
        description="Scenes that lie in the inbox. People and other programs put them there; the sensor tells of them.",
        kinds={"gdal", "geotiff"},
        **_common(""),
    )
    return [raw_scenes, _scene_products()]


def _scene_products() -> dg.AssetsDefinition:
    champion_keys = [dg.AssetKey([task.name, "champion"]) for task in ALL_TASKS]

    @dg.asset(
        key=SCENE_PRODUCTS,
        description=(
            "Masks, cloud probability, usable pixels, coverage, anomaly score, cloud-free estimate: all that the "
            "registered champions make of a scene, as Cloud-Optimised GeoTIFFs with a STAC item and a page that shows "
            "them. Finished scenes are skipped until scene, models or options change."
        ),
        kinds={"geotiff", "pytorch", "stac"},
        **_common(_OPTIONS.model_dump_json()),
        deps=[RAW_SCENES, *champion_keys],
        config_schema=_PRODUCTS_CONFIG,
        check_specs=scene_check_specs(SCENE_PRODUCTS),
        # Each scene is reported as soon as it is finished, so there is nothing left to return at the end.
        output_required=False,
        # Many scenes, one load of the models.
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def scene_products(
        context: dg.AssetExecutionContext, folders: Folders, tracking: Tracking
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        from cloud_assets.imagery.formats.scaling import stated_by_user
        from cloud_assets.lifecycle.registered_champions import registered_champions
        from cloud_assets.scenes.inbox import process_inbox
        from cloud_assets.scenes.product_checks import check_products

        config = dict(context.op_execution_context.op_config)
        how_to_read: dict[str, Any] = {
            "bands": config.pop("bands"),
            "instrument": config.pop("instrument"),
            "scaling": stated_by_user(config.pop("scale"), config.pop("offset")),
        }
        options = from_config(_OPTIONS, config)
        keys = _asked_for(context, folders)
        champions = registered_champions(tracking.tracker(), ALL_TASKS)
        context.log.info(f"{len(keys)} scenes with {', '.join(champions.versions)}")
        for said in champions.left_out:
            context.log.info(said)
        findings, failed = {}, {}
        for outcome in process_inbox(
            folders.incoming, keys, champions.bundles, folders.scenes, options, **how_to_read, tell=context.log.info
        ):
            key, products = outcome.key, outcome.products
            if products is None:
                context.log.error(f"{key}: {outcome.reason}")
                failed[key] = outcome.reason
                continue
            folders.publish_scene(products.directory)
            label = products.name if key in findings else key
            findings[label] = check_products(products, **how_to_read)
            context.log.info(f"{key}: {'made' if products.is_new else 'unchanged'}, {products.directory}")
            yield dg.AssetMaterialization(
                SCENE_PRODUCTS,
                partition=key,
                metadata=scene_metadata(products, champions, findings[label]),
                tags=provenance_tags(
                    context.instance,
                    products.fingerprint,
                    context.assets_def.code_versions_by_key[SCENE_PRODUCTS],
                    {RAW_SCENES: key, **dict.fromkeys(champion_keys)},
                ),
            )
        yield from scene_check_results(findings)
        if failed:
            lines = "\n".join(f"  {scene}: {reason}" for scene, reason in failed.items())
            raise InvalidScene(
                f"{len(failed)} of {len(keys)} scenes failed; the products of the others are finished.\n{lines}\n"
                "Mend or replace these scenes in the inbox (its sensor asks for changed ones by itself), or "
                "materialise their partitions again."
            )

    return scene_products


def _common(settings: str) -> _Common:
    return {
        "group_name": GROUP,
        "tags": {"domain": "earth_observation"},
        "owners": ["team:remote-sensing"],
        "code_version": hashlib.blake2b(f"{_VERSION}\n{settings}".encode(), digest_size=8).hexdigest(),
        "partitions_def": SCENES,
    }


def _asked_for(context: dg.AssetExecutionContext, folders: Folders) -> list[str]:
    """The scenes of a run: its partitions, or all that lie in the inbox where it names none."""
    if not (context.has_partition_key or context.has_partition_key_range):
        keys = list(scene_keys(folders.incoming))
        if not keys:
            raise InvalidScene(
                f"There is no scene in {folders.incoming}. Put some there, or set CLOUD_ASSETS_INBOX to the folder."
            )
    else:
        keys = [context.partition_key] if context.has_partition_key else list(context.partition_keys)
    # The command line names partitions that have not been added yet.
    there = [key for key in keys if Path(key).name == key and (folders.incoming / key).exists()]
    context.instance.add_dynamic_partitions(GROUP, there)
    return keys
