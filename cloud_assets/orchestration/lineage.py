"""The one lineage that every task has: raw scenes, patches, splits, models, evaluations, comparison, champion."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import dagster as dg

from cloud_assets.datasets.catalog import SceneCatalog
from cloud_assets.errors import TrackingUnavailable
from cloud_assets.evaluation.comparison import Comparison, compare
from cloud_assets.evaluation.evaluation import Evaluation
from cloud_assets.evaluation.hyperparameter_study import HyperparameterStudy
from cloud_assets.orchestration import checks
from cloud_assets.orchestration.asset_parts import common, run_link, upstream
from cloud_assets.orchestration.config_schema import config_schema, from_config
from cloud_assets.orchestration.export_asset import export_assets
from cloud_assets.orchestration.metadata import (
    comparison_metadata,
    evaluation_metadata,
    measured,
    model_metadata,
    patches_metadata,
    promotion_metadata,
    scenes_metadata,
    splits_metadata,
)
from cloud_assets.orchestration.references import reference_arguments, reference_keys
from cloud_assets.orchestration.resources import Folders, Source, Tracking
from cloud_assets.orchestration.study_asset import USE_STUDY, study_assets, study_fields, study_inputs, tuned
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.prediction.bundle import ModelBundle
from cloud_assets.tasks.promotion import Champion
from cloud_assets.tasks.task import Task


def lineage(task: Task) -> list[dg.AssetsDefinition]:
    """All assets of a task.

    Args:
        task: The task's declaration.

    Returns:
        Its assets, from the raw scenes to the champion.
    """
    per_variant = [
        asset
        for variant in task.variants
        for asset in (_trained_model(task, variant), _evaluation_report(task, variant))
    ]
    data = [_raw_scenes(task), _labeled_patches(task), _splits(task)]
    return [*data, *study_assets(task), *per_variant, _comparison(task), _champion(task), *export_assets(task)]


def _raw_scenes(task: Task) -> dg.AssetsDefinition:
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

    @dg.asset(**common(task, ["raw_scenes"], f"Scenes of {task.dataset.title}.", task.dataset), config_schema=schema)
    def raw_scenes(context: dg.AssetExecutionContext, folders: Folders) -> Iterator[dg.MaterializeResult[SceneCatalog]]:
        config = dict(context.op_execution_context.op_config)
        with measured() as cost:
            source, scale = config.pop("source"), config.pop("sample_scale")
            dataset = from_config(task.dataset, config)
            folder = folders.raw_data(dataset, source, scale)
            catalog = dataset.catalog(folder, cache=folders.working / ".cache")
        context.log.info(f"{len(catalog)} scenes of {catalog.dataset} in {folder}")
        yield dg.MaterializeResult(
            value=catalog,
            data_version=dg.DataVersion(catalog.data_version),
            metadata={**scenes_metadata(catalog, folder), **cost},
        )

    return raw_scenes


def _labeled_patches(task: Task) -> dg.AssetsDefinition:
    key = dg.AssetKey([task.name, "labeled_patches"])

    @dg.asset(
        **common(task, ["labeled_patches"], "Patches with their truth, as memory-mapped arrays.", task.patches),
        config_schema=config_schema(task.patches),
        check_specs=checks.patch_checks(key),
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
            with measured() as cost:
                tolerated = task.dataset.max_skipped_fraction
                store = cut_patches(raw_scenes, recipe, Path(directory) / "store", max_skipped_fraction=tolerated)
            yield dg.MaterializeResult(
                value=store,
                data_version=dg.DataVersion(store.data_version),
                metadata={**patches_metadata(store), **cost},
                check_results=checks.check_patches(store, raw_scenes),
            )

    return labeled_patches


def _splits(task: Task) -> dg.AssetsDefinition:
    key = dg.AssetKey([task.name, "splits"])

    @dg.asset(
        **common(task, ["splits"], "Training, validation and test patches; no group is in two of them.", task.split),
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


def _trained_model(task: Task, variant: str) -> dg.AssetsDefinition:
    defaults = task.variants[variant]
    retrain = dg.Field(
        bool, default_value=False, is_required=False, description="Train again even if this very training is finished."
    )

    @dg.asset(
        **common(task, [variant, "trained_model"], f"The variant {variant}, trained.", defaults),
        config_schema={**config_schema(defaults), **study_fields(task), "retrain": retrain},
        ins={
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
            **study_inputs(task),
        },
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
        **studies: HyperparameterStudy,
    ) -> Iterator[dg.MaterializeResult[ModelBundle]]:
        from cloud_assets.tasks.training import train_variant

        config = dict(context.op_execution_context.op_config)
        again = config.pop("retrain")
        use_study = config.pop(USE_STUDY, False)
        tracker = tracking.tracker()
        with measured() as cost:
            trained = train_variant(
                task.name,
                variant,
                tuned(from_config(defaults, config), variant, studies, use_study),
                labeled_patches,
                splits,
                folders.training,
                tracker,
                tags={"dagster_run_id": context.run_id},
                warn=context.log.warning,
                retrain=again,
            )
        record = trained.bundle.card.training
        context.log.info(f"{trained.how}: {record.epochs_run} epochs, best is number {record.best_epoch + 1}")
        yield dg.MaterializeResult(
            value=trained.bundle,
            data_version=dg.DataVersion(trained.bundle.version),
            metadata={
                "how": trained.how,
                **model_metadata(trained.bundle),
                **run_link(tracking, trained.run_id),
                **cost,
            },
        )

    return trained_model


def _evaluation_report(task: Task, variant: str) -> dg.AssetsDefinition:
    key = dg.AssetKey([task.name, variant, "evaluation_report"])

    @dg.asset(
        **common(task, [variant, "evaluation_report"], f"How good {variant} is on the test split.", task.evaluation),
        config_schema=config_schema(task.evaluation),
        check_specs=checks.evaluation_checks(key),
        deps=reference_keys(task),
        ins={
            "trained_model": upstream(task, variant, "trained_model"),
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
        },
    )
    def evaluation_report(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        trained_model: ModelBundle,
        labeled_patches: PatchStore,
        splits: Splits,
    ) -> Iterator[dg.MaterializeResult[Evaluation]]:
        evaluator = from_config(task.evaluation, context.op_execution_context.op_config)
        with measured() as cost:
            rivals = reference_arguments(task, tracking, context.log.warning)
            evaluation = evaluator.evaluate(trained_model, labeled_patches, splits, **rivals)
        run_id = None
        try:
            run_id = tracking.tracker().known_run(folders.workspace(trained_model))
            if run_id is not None:
                tracking.tracker().log_evaluation(run_id, evaluation)
        except TrackingUnavailable as error:
            context.log.warning(str(error))
        report = str(folders.results.joinpath(*key.path) / "report.html")
        context.log.info(f"{task.gate.metric} {evaluation.metrics[task.gate.metric]:.4f}, report {report}")
        yield dg.MaterializeResult(
            value=evaluation,
            data_version=dg.DataVersion(evaluation.data_version),
            metadata={**evaluation_metadata(evaluation, report), **run_link(tracking, run_id), **cost},
            check_results=checks.check_evaluation(evaluation, task.gate),
        )

    return evaluation_report


def _comparison(task: Task) -> dg.AssetsDefinition:
    key = dg.AssetKey([task.name, "comparison"])

    @dg.asset(
        **common(task, ["comparison"], "The variants side by side, ranked by the gate's metric.", task.gate),
        check_specs=checks.comparison_checks(key),
        ins={variant: upstream(task, variant, "evaluation_report", kind=Evaluation) for variant in task.variants},
    )
    def comparison(folders: Folders, **evaluations: Evaluation) -> Iterator[dg.MaterializeResult[Comparison]]:
        with measured() as cost:
            compared = compare(evaluations, task.gate)
        report = str(folders.results.joinpath(*key.path) / "report.html")
        yield dg.MaterializeResult(
            value=compared,
            data_version=dg.DataVersion(compared.data_version),
            metadata={**comparison_metadata(compared, report), **cost},
            check_results=checks.check_comparison(compared),
        )

    return comparison


def _champion(task: Task) -> dg.AssetsDefinition:
    key = dg.AssetKey([task.name, "champion"])
    models = {
        f"{variant}_model": upstream(task, variant, "trained_model", kind=ModelBundle) for variant in task.variants
    }
    reports = {
        f"{variant}_report": upstream(task, variant, "evaluation_report", kind=Evaluation) for variant in task.variants
    }

    @dg.asset(
        **common(task, ["champion"], "The task's best model so far, in MLflow's registry as champion.", task.gate),
        check_specs=checks.champion_checks(key),
        ins={
            "comparison": upstream(task, "comparison"),
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
            **models,
            **reports,
        },
    )
    def champion(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        comparison: Comparison,
        labeled_patches: PatchStore,
        splits: Splits,
        **inputs: Any,
    ) -> Iterator[dg.MaterializeResult[Champion]]:
        from cloud_assets.tasks.promotion import CHAMPION, promote

        bundle: ModelBundle = inputs[f"{comparison.best}_model"]
        evaluation: Evaluation = inputs[f"{comparison.best}_report"]
        tracker = tracking.tracker()
        with measured() as cost:
            workspace = folders.workspace(bundle)
            decided = promote(task, bundle, evaluation, workspace, labeled_patches, splits, tracker)
        context.log.info(decided.record.reason)
        registered = tracker.version_at(task.name, CHAMPION)
        yield dg.MaterializeResult(
            value=decided,
            data_version=dg.DataVersion(decided.data_version),
            metadata={
                **promotion_metadata(decided.record),
                "load": dg.MetadataValue.md(f'`mlflow.pyfunc.load_model("models:/{task.name}@champion")`'),
                **run_link(tracking, decided.record.run_id),
                **cost,
            },
            check_results=checks.check_champion(
                decided.bundle.version, registered.tags.get("model_version") if registered else None
            ),
        )

    return champion
