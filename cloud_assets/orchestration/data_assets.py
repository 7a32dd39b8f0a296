"""The assets of a lineage's data: raw scenes, labelled patches, splits."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import dagster as dg

from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.orchestration import checks
from cloud_assets.orchestration.asset_parts import RETRIES, made, only_outages_are_retried, task_asset
from cloud_assets.orchestration.config_schema import from_config, option
from cloud_assets.orchestration.metadata import measured, patches_metadata, scenes_metadata, splits_metadata
from cloud_assets.orchestration.resources import Folders, Source
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task


def raw_scenes_asset(task: Task) -> dg.AssetsDefinition:
    """What raw data there are."""
    sources = dg.Enum("source", [dg.EnumValue(value) for value in get_args(Source)])
    said = "'auto': what CLOUD_ASSETS_DATA names, else the embedded sample; 'sample': always the sample."
    fields = {"source": option(sources, "auto", said), "sample_scale": option(float, 1.0, "Size of the sample.")}

    @task_asset(
        task,
        "raw_scenes",
        f"Scenes of {task.dataset.title}.",
        task.dataset,
        {"gdal", "geotiff"},
        fields=fields,
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
        metadata = {**scenes_metadata(catalog, folder), **cost}
        yield made(catalog, catalog.data_version, metadata, checks.check_scenes(catalog))

    return raw_scenes


def labeled_patches_asset(task: Task) -> dg.AssetsDefinition:
    """The scenes, cut into patches."""
    what = "Patches with their truth, as memory-mapped arrays."

    @task_asset(
        task, "labeled_patches", what, task.patches, {"numpy", "parquet"}, inputs=["raw_scenes"], retry_policy=RETRIES
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
            found = [*checks.check_patches(store, raw_scenes), *checks.check_values(store, raw_scenes)]
            yield made(store, store.data_version, {**patches_metadata(store), **cost}, found)

    return labeled_patches


def splits_asset(task: Task) -> dg.AssetsDefinition:
    """Which patches are for training, validation and testing."""
    what = "Training, validation and test patches; no group is in two of them."

    @task_asset(task, "splits", what, task.split, {"scikitlearn", "parquet"}, inputs=["labeled_patches"])
    def splits(
        context: dg.AssetExecutionContext, labeled_patches: PatchStore
    ) -> Iterator[dg.MaterializeResult[Splits]]:
        with measured() as cost:
            divided = from_config(task.split, context.op_execution_context.op_config).split(labeled_patches)
        found = checks.check_splits(divided, labeled_patches)
        yield made(divided, divided.data_version, {**splits_metadata(divided), **cost}, found)

    return splits
