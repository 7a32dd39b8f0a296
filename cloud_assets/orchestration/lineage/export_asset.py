"""The exported champion as an asset, for every task that declares how to export."""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.orchestration.automation.automation_settings import when_dependencies_change
from cloud_assets.orchestration.common.asset_parts import common, upstream
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.metadata import Metadata, measured, metric_values
from cloud_assets.orchestration.common.resources import Folders
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.inference.onnx_export import ExportedModel

EXPORTED = "exported_model"


def export_assets(task: Task) -> list[dg.AssetsDefinition]:
    """The task's exported champion; none if it declares no export."""
    return [] if task.export is None else [_exported_model(task, task.export)]


def _exported_model(task: Task, defaults: ExportRecipe) -> dg.AssetsDefinition:
    @dg.asset(
        **common(
            task,
            EXPORTED,
            "The champion for machines without PyTorch: ONNX, and in 8-bit integers.",
            defaults,
            {"onnx"},
        ),
        config_schema=config_schema(defaults),
        # A champion that was approved or rolled back by hand reaches its exported form, too.
        automation_condition=when_dependencies_change(),
        ins={
            "champion": upstream(task, "champion"),
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
        },
    )
    def exported_model(
        context: dg.AssetExecutionContext,
        folders: Folders,
        champion: Champion,
        labeled_patches: PatchStore,
        splits: Splits,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        from cloud_assets.lifecycle.export import export_model

        recipe = from_config(defaults, context.op_execution_context.op_config)
        with measured() as cost:
            exported = export_model(task, recipe, champion.bundle, labeled_patches, splits)
        folder = str(folders.results.joinpath(task.name, EXPORTED))
        yield dg.MaterializeResult(
            value=exported,
            data_version=dg.DataVersion(_version(champion.bundle.version, recipe.model_dump_json())),
            metadata={**_metadata(exported, folder), **cost},
        )

    return exported_model


def _version(model: str, recipe: str) -> str:
    return hashlib.blake2b(f"{model} {recipe}".encode(), digest_size=16).hexdigest()


def _metadata(exported: "ExportedModel", folder: str) -> Metadata:
    """Files, sizes, parity, and what the 8-bit network loses."""
    record = exported.record
    metadata: Metadata = {
        "folder": dg.MetadataValue.path(folder),
        "variant": dg.MetadataValue.text(exported.card.variant),
        "opset": dg.MetadataValue.int(record.opset),
        "inputs_compared": dg.MetadataValue.int(record.inputs_compared),
        "max_difference": dg.MetadataValue.float(record.max_difference),
        "size_mb": dg.MetadataValue.float(round(record.bytes / 1e6, 3)),
        "milliseconds": dg.MetadataValue.float(record.milliseconds),
        **metric_values(record.metrics),
    }
    if record.int8_bytes is not None:
        metadata["int8_size_mb"] = dg.MetadataValue.float(round(record.int8_bytes / 1e6, 3))
    if record.int8_milliseconds is not None:
        metadata["int8_milliseconds"] = dg.MetadataValue.float(record.int8_milliseconds)
    if record.int8_agreement is not None:
        metadata["int8_agreement"] = dg.MetadataValue.float(record.int8_agreement)
    return metadata
