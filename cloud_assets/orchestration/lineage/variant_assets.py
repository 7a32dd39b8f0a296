"""The assets of a variant: the trained model and its evaluation."""

from collections.abc import Iterator

import dagster as dg

from cloud_assets.errors import TrackingUnavailable
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.orchestration.common.asset_parts import (
    GPU_POOL,
    common,
    dagster_link,
    reference_inputs,
    references,
    report_key,
    run_link,
    upstream,
)
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.metadata import evaluation_metadata, measured, model_metadata
from cloud_assets.orchestration.common.resources import Folders, Tracking
from cloud_assets.orchestration.common.retries import RETRIES, only_outages_are_retried
from cloud_assets.orchestration.lineage import checks
from cloud_assets.orchestration.lineage.study_asset import USE_STUDY, study_fields, study_inputs, tuned
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.settings import settings
from cloud_assets.tasks.task import Task


def model_asset(task: Task, variant: str) -> dg.AssetsDefinition:
    """A variant's model, trained once for the same recipe and data."""
    defaults = task.variants[variant]
    retrain = dg.Field(
        bool, default_value=False, is_required=False, description="Train again even if this very training is finished."
    )

    @dg.asset(
        **common(task, f"{variant}_model", f"The variant {variant}, trained.", defaults, {"pytorch", "mlflow"}),
        config_schema={**config_schema(defaults), **study_fields(task), "retrain": retrain},
        ins={
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
            **study_inputs(task),
        },
        pool=GPU_POOL,
        # A training that is tried again goes on from its last checkpoint.
        retry_policy=RETRIES,
    )
    def model(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
        **studies: HyperparameterStudy,
    ) -> Iterator[dg.MaterializeResult[ModelBundle]]:
        from cloud_assets.lifecycle.training import train_variant

        config = dict(context.op_execution_context.op_config)
        again = config.pop("retrain")
        use_study = config.pop(USE_STUDY, False)
        tracker = tracking.tracker()
        with measured() as cost, only_outages_are_retried():
            trained = train_variant(
                task.name,
                variant,
                tuned(from_config(defaults, config), variant, studies, use_study),
                labeled_patches,
                splits,
                folders.training,
                tracker,
                tags=dagster_link(context),
                warn=context.log.warning,
                retrain=again,
                keep=settings().keep_trainings,
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

    return model


def report_asset(task: Task, variant: str) -> dg.AssetsDefinition:
    """How good a variant's model is on the test split."""
    key = report_key(task, variant)

    @dg.asset(
        **common(
            task,
            f"{variant}_report",
            f"How good {variant} is on the test split.",
            task.evaluation,
            {"torchmetrics", "html"},
        ),
        config_schema=config_schema(task.evaluation),
        check_specs=[*checks.evaluation_checks(key), *checks.metric_checks(key)],
        pool=GPU_POOL,
        ins={
            **reference_inputs(task),
            "model": upstream(task, f"{variant}_model"),
            "labeled_patches": upstream(task, "labeled_patches"),
            "splits": upstream(task, "splits"),
        },
    )
    def report(
        context: dg.AssetExecutionContext,
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
        page = str(folders.results.joinpath(*key.path) / "report.html")
        context.log.info(f"{task.gate.metric} {evaluation.metrics[task.gate.metric]:.4f}, report {page}")
        yield dg.MaterializeResult(
            value=evaluation,
            data_version=dg.DataVersion(evaluation.data_version),
            metadata={**evaluation_metadata(evaluation, page), **run_link(tracking, run_id), **cost},
            check_results=[
                *checks.check_evaluation(evaluation, task.gate),
                *checks.check_metric(evaluation, task.gate),
            ],
        )

    return report
