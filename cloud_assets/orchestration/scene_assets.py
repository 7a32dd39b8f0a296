"""The assets of scenes: the inbox, and the products of each scene."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from cloud_assets.errors import InvalidScene
from cloud_assets.orchestration.asset_parts import code_version, provenance_tags, retried_run_after_outage
from cloud_assets.orchestration.checks import check_specs, result
from cloud_assets.orchestration.config_schema import config_schema, from_config, option
from cloud_assets.orchestration.metadata import Metadata, bullets, counts_table, figure
from cloud_assets.orchestration.resources import Folders, Tracking
from cloud_assets.scenes.batch import scene_keys
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.product_checks import Finding
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.settings import RESOURCES_TAG, settings
from cloud_assets.tasks import ALL_TASKS

GROUP = "scenes"
SCENES = dg.DynamicPartitionsDefinition(name=GROUP)  # one partition a scene, named as its file or folder in the inbox
RAW_SCENES = dg.AssetKey([GROUP, "raw_scenes"])
SCENE_PRODUCTS = dg.AssetKey([GROUP, "scene_products"])
_TAGS, _OWNERS = {"domain": "earth_observation"}, ["team:remote-sensing"]
_VERSION = "2"  # raised when products of the same options would come out differently than before
_SHOWN = (
    "cloud_percentage",
    "classifier_cloud_percentage",
    "usable_fraction",
    "valid_fraction",
    "anomaly_score",
    "synthetic_fraction",
    "seconds",
    "megapixels_per_second",
)


def scene_assets() -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The inbox and the products."""
    raw_scenes = dg.AssetSpec(
        RAW_SCENES,
        description="Scenes that lie in the inbox. People and other programs put them there; the sensor tells of them.",
        kinds={"gdal", "geotiff"},
        group_name=GROUP,
        tags=_TAGS,
        owners=_OWNERS,
        code_version=code_version(_VERSION, ""),
        partitions_def=SCENES,
    )
    return [raw_scenes, _scene_products()]


def _scene_products() -> dg.AssetsDefinition:
    champion_keys = [dg.AssetKey([task.name, "champion"]) for task in ALL_TASKS]
    defaults = SceneOptions()

    @dg.asset(
        key=SCENE_PRODUCTS,
        description=(
            "Masks, cloud probability, usable pixels, coverage, anomaly score, cloud-free estimate: all that champions "
            "which learnt from real data make of a scene, as Cloud-Optimised GeoTIFFs with a STAC item and a page that "
            "shows them. Finished scenes are skipped until scene, models or options change."
        ),
        kinds={"geotiff", "pytorch", "stac"},
        group_name=GROUP,
        tags=_TAGS,
        op_tags={RESOURCES_TAG: settings().scene_resources.model_dump_json()},
        hooks={retried_run_after_outage},
        owners=_OWNERS,
        code_version=code_version(_VERSION, defaults.model_dump_json()),
        partitions_def=SCENES,
        deps=[RAW_SCENES, *champion_keys],
        config_schema={
            **config_schema(defaults),
            "bands": option(dg.Noneable([str]), None, "Bands of raster files that do not tell them, in order."),
            "instrument": option(dg.Noneable(str), None, "Instrument of raster files that do not tell it."),
            "scale": option(dg.Noneable(float), None, "Reflectance a number of raster files that do not tell it."),
            "offset": option(dg.Noneable(float), None, "Added to it, in reflectance."),
        },
        check_specs=check_specs(SCENE_PRODUCTS, "scene_products"),
        # Each scene is reported as soon as it is finished, so there is nothing left to return at the end.
        output_required=False,
        # Many scenes, one load of the models; the runs of a backfill spread over the nodes of a cluster.
        backfill_policy=dg.BackfillPolicy.multi_run(settings().scenes_a_run),
    )
    def scene_products(
        context: dg.AssetExecutionContext, folders: Folders, tracking: Tracking
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        from cloud_assets.imagery.formats.scaling import stated_by_user
        from cloud_assets.lifecycle.model_references import models_for_scenes
        from cloud_assets.scenes.batch import process_inbox
        from cloud_assets.scenes.product_checks import check_products

        config = dict(context.op_execution_context.op_config)
        how_to_read: dict[str, Any] = {
            "bands": config.pop("bands"),
            "instrument": config.pop("instrument"),
            "scaling": stated_by_user(config.pop("scale"), config.pop("offset")),
        }
        options = from_config(defaults, config)
        keys = _asked_for(context, folders)
        models = models_for_scenes(tracking.tracker(), ALL_TASKS)
        said = [*models.said, *(f"No champion of {task} yet: scenes go without." for task in models.without)]
        context.log.info("\n".join([f"{len(keys)} scenes", *said]))
        findings, failed = {}, {}
        for key, products in process_inbox(
            folders.incoming, keys, models.bundles, folders.scenes, options, **how_to_read, tell=context.log.info
        ):
            if isinstance(products, str):
                context.log.error(f"{key}: {products}")
                failed[key] = products
                continue
            folders.publish_scene(products.directory)
            label = products.name if key in findings else key
            findings[label] = check_products(products, **how_to_read)
            context.log.info(f"{key}: {'made' if products.is_new else 'unchanged'}, {products.directory}")
            yield dg.AssetMaterialization(
                SCENE_PRODUCTS,
                partition=key,
                metadata=_metadata(products, said, findings[label]),
                tags=provenance_tags(
                    context.instance,
                    products.fingerprint,
                    context.assets_def.code_versions_by_key[SCENE_PRODUCTS],
                    {RAW_SCENES: key, **dict.fromkeys(champion_keys)},
                ),
            )
        for check in dict.fromkeys(one.check for several in findings.values() for one in several):
            found = {scene: one for scene, several in findings.items() for one in several if one.check == check}
            wrong = [f"{scene}: {one.said}" for scene, one in found.items() if not one.passed]
            by_scene = counts_table({scene: one.said for scene, one in found.items()}, "scene", "found")
            yield result(check, not wrong, "; ".join(wrong) or f"{len(found)} scenes", {"scenes": by_scene})
        if failed:
            lines = "\n".join(f"  {scene}: {reason}" for scene, reason in failed.items())
            raise InvalidScene(
                f"{len(failed)} of {len(keys)} scenes failed; the products of the others are finished.\n{lines}\n"
                "Mend or replace these scenes in the inbox (its sensor asks for changed ones by itself), or "
                "materialise their partitions again."
            )

    return scene_products


def _asked_for(context: dg.AssetExecutionContext, folders: Folders) -> list[str]:
    """The scenes of a run: its partitions, or all that lie in the inbox where it names none."""
    if not (context.has_partition_key or context.has_partition_key_range):
        keys = list(scene_keys(folders.incoming))
        if not keys:
            raise InvalidScene(f"There is no scene in {folders.incoming}. Put some there, or set CLOUD_ASSETS_INBOX.")
    else:
        keys = [context.partition_key] if context.has_partition_key else list(context.partition_keys)
    # The command line names partitions that have not been added yet.
    there = [key for key in keys if Path(key).name == key and (folders.incoming / key).exists()]
    context.instance.add_dynamic_partitions(GROUP, there)
    return keys


def _metadata(products: SceneProducts, champions: Sequence[str], findings: Sequence[Finding]) -> Metadata:
    """The products of one scene: pictures, numbers, files, models."""
    from cloud_assets.imagery.writing import of_class_file, png

    paths, statistics = products.paths, products.statistics
    metadata: Metadata = {
        "how": "made" if products.is_new else "unchanged: scene, models and options are as before",
        "quicklook": figure(paths["quicklook"].read_bytes(), f"{products.name} as the eye sees it"),
    }
    if "mask" in paths:
        metadata["mask"] = figure(png(of_class_file(paths["mask"])), f"cloud classes of {products.name}")
    shown = {name: statistics[name] for name in _SHOWN if name in statistics}
    return {
        **metadata,
        **{name: float(round(value, 4)) for name, value in shown.items() if value == value},
        "page": paths["page"],
        "stac_item": paths["stac"],
        "files": counts_table({name: str(path) for name, path in paths.items()}, "product", "file"),
        "models": counts_table(products.models, "model", "version"),
        **bullets(
            champions=champions,
            checks=[f"{'✓' if one.passed else '✗'} {one.check}: {one.said}" for one in findings],
            notes=products.warnings,
        ),
        "scene": dg.MetadataValue.path(products.source),
    }
