"""The assets of a lineage's data: raw scenes, labelled patches, splits."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import dagster as dg

from cloud_assets.datasets.catalog import SceneCatalog
from cloud_assets.orchestration.common.asset_parts import common, upstream
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.metadata import measured, patches_metadata, scenes_metadata, splits_metadata
from cloud_assets.orchestration.common.resources import Folders, Source
from cloud_assets.orchestration.common.retries import RETRIES, only_outages_are_retried
from cloud_assets.orchestration.lineage import checks
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task


def raw_scenes_asset(task: Task) -> dg.AssetsDefinition:
    """What raw data there are."""
    schema = {
        **config_schema(task.dataset),
        "source": dg.Field(
            dg.Enum("source", [dg.EnumValue(value) for value in get_args(Source)]),
            default_value="auto",
            is_required=False,
            description="'auto': what CLOUD_ASSETS_DATA names, else the embedded sample; 'sample': always the sample.",
        ),
        "sample_scale": dg.Field(float, default_value=1.0, is_required=False, description="Size of the sample."),
    }

    key = dg.AssetKey([task.name, "raw_scenes"])

    @dg.asset(
        **common(task, "raw_scenes", f"Scenes of {task.dataset.title}.", task.dataset, {"gdal", "geotiff"}),
        config_schema=schema,
        check_specs=checks.scene_checks(key),
        retry_policy=RETRIES,
    )
    def raw_scenes(context: dg.AssetExecutionContext, folders: Folders) -> Iterator[dg.MaterializeResult[SceneCatalog]]:
        config = dict(context.op_execution_context.op_config)
        with measured() as cost, only_outages_are_retried():
            source, scale = config.pop("source"), config.pop("sample_scale")
            dataset = from_config(task.dataset, config)
            folder = folders.raw_data(dataset, source, scale)
            catalog = dataset.catalog(folder, cache=folders.working / ".cache")
        context.log.info(f"{len(catalog)} scenes of {catalog.dataset} in {folder}")
        yield dg.MaterializeResult(
            value=catalog,
            data_version=dg.DataVersion(catalog.data_version),
            metadata={**scenes_metadata(catalog, folder), **cost},
            check_results=checks.check_scenes(catalog),
        )

    return raw_scenes


def labeled_patches_asset(task: Task) -> dg.AssetsDefinition:
    """The scenes, cut into patches."""
    key = dg.AssetKey([task.name, "labeled_patches"])

    @dg.asset(
        **common(
            task,
            "labeled_patches",
            "Patches with their truth, as memory-mapped arrays.",
            task.patches,
            {"numpy", "parquet"},
        ),
        config_schema=config_schema(task.patches),
        check_specs=[*checks.patch_checks(key), *checks.value_checks(key)],
        retry_policy=RETRIES,
        ins={"raw_scenes": upstream(task, "raw_scenes")},
    )
    def labeled_patches(
        context: dg.AssetExecutionContext, folders: Folders, raw_scenes: SceneCatalog
    ) -> Iterator[dg.MaterializeResult[PatchStore]]:
        from cloud_assets.patches.cutting import cut_patches

        recipe = from_config(task.patches, context.op_execution_context.op_config)
        folders.working.mkdir(parents=True, exist_ok=True)
        # Beside the results, so that saving links the arrays instead of copying them; gone once they are saved.
        with tempfile.TemporaryDirectory(prefix=".cutting-", dir=folders.working) as directory:
            with measured() as cost, only_outages_are_retried():
                tolerated = task.dataset.max_skipped_fraction
                store = cut_patches(raw_scenes, recipe, Path(directory) / "store", max_skipped_fraction=tolerated)
            yield dg.MaterializeResult(
                value=store,
                data_version=dg.DataVersion(store.data_version),
                metadata={**patches_metadata(store), **cost},
                check_results=[
                    *checks.check_patches(store, raw_scenes),
                    *checks.check_values(store, raw_scenes),
                ],
            )

    return labeled_patches


def splits_asset(task: Task) -> dg.AssetsDefinition:
    """Which patches are for training, validation and testing."""
    key = dg.AssetKey([task.name, "splits"])

    @dg.asset(
        **common(
            task,
            "splits",
            "Training, validation and test patches; no group is in two of them.",
            task.split,
            {"scikitlearn", "parquet"},
        ),
        config_schema=config_schema(task.split),
        check_specs=checks.split_checks(key),
        ins={"labeled_patches": upstream(task, "labeled_patches")},
    )
    def splits(
        context: dg.AssetExecutionContext, labeled_patches: PatchStore
    ) -> Iterator[dg.MaterializeResult[Splits]]:
        with measured() as cost:
            divided = from_config(task.split, context.op_execution_context.op_config).split(labeled_patches)
        yield dg.MaterializeResult(
            value=divided,
            data_version=dg.DataVersion(divided.data_version),
            metadata={**splits_metadata(divided), **cost},
            check_results=checks.check_splits(divided, labeled_patches),
        )

    return splits
