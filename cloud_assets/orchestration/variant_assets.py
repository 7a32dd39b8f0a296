"""The assets up to evaluated variants: raw scenes, labelled patches, splits; study, trained models, evaluations."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import dagster as dg

from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.errors import TrackingUnavailable
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.lifecycle.study import STUDY, search, searched_variant, storage_url, study_workspace
from cloud_assets.orchestration import checks
from cloud_assets.orchestration.asset_parts import (
    GPU_POOL,
    RETRIES,
    Context,
    asset_key,
    dagster_link,
    made,
    only_outages_are_retried,
    reference_inputs,
    references,
    run_link,
    task_asset,
)
from cloud_assets.orchestration.config_schema import from_config, option
from cloud_assets.orchestration.metadata import (
    bullets,
    evaluation_metadata,
    figures,
    measured,
    model_metadata,
    patches_metadata,
    scenes_metadata,
    splits_metadata,
    table,
)
from cloud_assets.orchestration.resources import Folders, Source, Tracking
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.settings import settings
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
    def raw_scenes(context: Context, folders: Folders) -> Iterator[dg.MaterializeResult[SceneCatalog]]:
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
        context: Context, folders: Folders, raw_scenes: SceneCatalog
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
    def splits(context: Context, labeled_patches: PatchStore) -> Iterator[dg.MaterializeResult[Splits]]:
        with measured() as cost:
            divided = from_config(task.split, context.op_execution_context.op_config).split(labeled_patches)
        found = checks.check_splits(divided, labeled_patches)
        yield made(divided, divided.data_version, {**splits_metadata(divided), **cost}, found)

    return splits


_DATA = ("labeled_patches", "splits")
_TEACHER = "teacher"  # input of a model that learns from another variant's
_USE_STUDY = "use_study"  # field of a trained model's configuration


def model_asset(task: Task, variant: str) -> dg.AssetsDefinition:
    """A variant's model, trained once for the same recipe and data."""
    defaults = task.variants[variant]
    fields = {"retrain": option(bool, False, "Train again even if this very training is finished.")}
    further: dict[str, dg.AssetIn] = {}
    if task.search_space is not None:
        said = "Train with the study's best values; they take the place of those given here. false: leave them out."
        fields[_USE_STUDY] = option(bool, True, said)
        further[STUDY] = dg.AssetIn(asset_key(task, STUDY), dagster_type=HyperparameterStudy)

    if defaults.learns_from in task.variants:
        further[_TEACHER] = dg.AssetIn(asset_key(task, f"{defaults.learns_from}_model"), dagster_type=ModelBundle)

    @task_asset(
        task,
        f"{variant}_model",
        f"The variant {variant}, trained.",
        defaults,
        {"pytorch", "mlflow"},
        inputs=_DATA,
        further_inputs=further,
        fields=fields,
        pool=GPU_POOL,
        # A training that is tried again goes on from its last checkpoint.
        retry_policy=RETRIES,
    )
    def model(
        context: Context, folders: Folders, tracking: Tracking, labeled_patches: PatchStore, splits: Splits, **more: Any
    ) -> Iterator[dg.MaterializeResult[ModelBundle]]:
        from cloud_assets.lifecycle.training import train_variant

        config = dict(context.op_execution_context.op_config)
        again, use_study = config.pop("retrain"), config.pop(_USE_STUDY, False)
        teacher = more.pop(_TEACHER, None)
        recipe = tuned(from_config(defaults, config), variant, more, use_study)
        with measured() as cost, only_outages_are_retried():
            trained = train_variant(
                task.name,
                variant,
                recipe,
                labeled_patches,
                splits,
                folders.training,
                tracking.tracker(),
                tags=dagster_link(context),
                warn=context.log.warning,
                teacher=teacher if recipe.learns_from == defaults.learns_from else None,
                retrain=again,
                keep=settings().keep_trainings,
            )
        bundle, record = trained.bundle, trained.bundle.card.training
        context.log.info(f"{trained.how}: {record.epochs_run} epochs, best is number {record.best_epoch + 1}")
        metadata = {"how": trained.how, **model_metadata(bundle), **run_link(tracking, trained.run_id), **cost}
        yield made(bundle, bundle.version, metadata)

    return model


def report_asset(task: Task, variant: str) -> dg.AssetsDefinition:
    """How good a variant's model is on the test split."""
    name = f"{variant}_report"

    @task_asset(
        task,
        name,
        f"How good {variant} is on the test split.",
        task.evaluation,
        {"torchmetrics", "html"},
        inputs=_DATA,
        further_inputs={**reference_inputs(task), "model": dg.AssetIn(asset_key(task, f"{variant}_model"))},
        checks="report",
        pool=GPU_POOL,
    )
    def report(
        context: Context,
        folders: Folders,
        tracking: Tracking,
        model: ModelBundle,
        labeled_patches: PatchStore,
        splits: Splits,
        **champions: Champion | None,
    ) -> Iterator[dg.MaterializeResult[Evaluation]]:
        from cloud_assets.reports.evaluation import with_changed_settings

        evaluator = from_config(task.evaluation, context.op_execution_context.op_config)
        with measured() as cost:
            further = references(task, champions)
            evaluation = family_of(evaluator).evaluate(evaluator, model, labeled_patches, splits, **further)
            declared = task.variants[variant].model_dump(mode="json")
            evaluation = with_changed_settings(evaluation, model.card.training.recipe, declared)
        run_id = None
        try:
            run_id = tracking.tracker().known_run(folders.workspace(model))
            if run_id is not None:
                tracking.tracker().log_evaluation(run_id, evaluation)
        except TrackingUnavailable as error:
            context.log.warning(str(error))
        page = folders.report(task.name, name)
        context.log.info(f"{task.gate.metric} {evaluation.metrics[task.gate.metric]:.4f}, report {page}")
        metadata = {**evaluation_metadata(evaluation, page), **run_link(tracking, run_id), **cost}
        yield made(evaluation, evaluation.data_version, metadata, checks.check_evaluation(evaluation, task.gate))

    return report


def tuned(recipe: Any, variant: str, studies: Mapping[str, HyperparameterStudy], wanted: bool) -> Any:
    """A recipe with the best values of the studies that are meant for its variant."""
    for study in studies.values() if wanted else ():
        if study.variant == variant or not study.recipe.only_its_variant:
            recipe = study.best_recipe(recipe)
    return recipe


def study_asset(task: Task) -> dg.AssetsDefinition:
    """The hyper-parameter study of a task that declares a search space."""
    said = "Fields of the searched variant's recipe that trials start from, as in that of its model."
    what = "Search for the best training recipe, with Optuna."

    @task_asset(
        task,
        STUDY,
        what,
        task.study,
        {"optuna", "mlflow"},
        inputs=_DATA,
        fields={"recipe": option(dict, {}, said)},
        pool=GPU_POOL,
    )
    def hyperparameter_study(
        context: Context, folders: Folders, tracking: Tracking, labeled_patches: PatchStore, splits: Splits
    ) -> Iterator[dg.MaterializeResult[HyperparameterStudy]]:
        config = dict(context.op_execution_context.op_config)
        start = config.pop("recipe")
        recipe = from_config(task.study, config)
        base = from_config(task.variants[searched_variant(task, recipe)], start)
        with measured() as cost:
            study, run_id = search(
                task, recipe, base, labeled_patches, splits, folders.training, tracking.tracker(),
                tags=dagster_link(context), warn=context.log.warning,
            )  # fmt: skip
        said = f"{study.counted} trials: {dict(study.counts)}"
        context.log.info(said)
        report = dg.MetadataValue.path(folders.report(task.name, STUDY))
        metadata = {
            "study": study.name or "none",
            "variant": study.variant,
            **{f"trials_{state}": count for state, count in study.counts.items()},
            **bullets(notes=study.notes),
            **{name: table(content) for name, content in study.tables.items()},
            **({} if study.best_value is None else {f"best_{study.recipe.metric}": float(study.best_value)}),
            **figures(study.figures, study.captions),
            "report": report,
            **cost,
        }
        if recipe.trials:
            workspace = study_workspace(folders.training, task.name, study.name)
            storage = "<the storage URL>" if recipe.storage else storage_url(recipe, workspace)
            dashboard = f"`pip install optuna-dashboard; optuna-dashboard {storage}`"
            metadata.update({**run_link(tracking, run_id), "dashboard": dg.MetadataValue.md(dashboard)})
        found = checks.result("has_a_best_trial", study.best_trial is not None or recipe.trials == 0, said)
        yield made(study, study.data_version, metadata, [found])

    return hyperparameter_study
