"""The hyper-parameter study as an asset, for every task that declares a search space."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cloud_assets.learning.search_space import StudyRecipe
from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy
from cloud_assets.lifecycle.study import STUDY, search, searched_variant, study_workspace
from cloud_assets.lifecycle.study_trials import storage_url
from cloud_assets.orchestration.common.asset_parts import GPU_POOL, common, dagster_link, run_link, upstream
from cloud_assets.orchestration.common.config_schema import config_schema, from_config
from cloud_assets.orchestration.common.metadata import Metadata, figures, measured, table
from cloud_assets.orchestration.common.resources import Folders, Tracking
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task

USE_STUDY = "use_study"
"""Field of a trained model's configuration."""


def study_assets(task: Task) -> list[dg.AssetsDefinition]:
    """The task's study; none if it declares no search space."""
    return [] if task.search_space is None else [_hyperparameter_study(task)]


def study_inputs(task: Task) -> dict[str, dg.AssetIn]:
    """The study as an input of the trained models."""
    return {} if task.search_space is None else {STUDY: upstream(task, STUDY, kind=HyperparameterStudy)}


def study_fields(task: Task) -> dict[str, dg.Field]:
    """What the trained models' configuration says about the study."""
    if task.search_space is None:
        return {}
    what = "Train with the study's best values; they take the place of those given here. false: leave them out."
    return {USE_STUDY: dg.Field(bool, default_value=True, is_required=False, description=what)}


def tuned(recipe: Any, variant: str, studies: Mapping[str, HyperparameterStudy], wanted: bool) -> Any:
    """A recipe with the best values of the studies that are meant for its variant."""
    for study in studies.values() if wanted else ():
        if study.variant == variant or not study.recipe.only_its_variant:
            recipe = study.best_recipe(recipe)
    return recipe


def _hyperparameter_study(task: Task) -> dg.AssetsDefinition:
    key, check = dg.AssetKey([task.name, STUDY]), "has_a_best_trial"
    start = dg.Field(
        dict,
        default_value={},
        is_required=False,
        description="Fields of the searched variant's recipe that trials start from, as in that of its model.",
    )

    @dg.asset(
        **common(task, STUDY, "Search for the best training recipe, with Optuna.", task.study, {"optuna", "mlflow"}),
        config_schema={**config_schema(task.study), "recipe": start},
        check_specs=[dg.AssetCheckSpec(check, asset=key, description="A trial came to its end, if any was asked for.")],
        ins={"labeled_patches": upstream(task, "labeled_patches"), "splits": upstream(task, "splits")},
        pool=GPU_POOL,
    )
    def hyperparameter_study(
        context: dg.AssetExecutionContext,
        folders: Folders,
        tracking: Tracking,
        labeled_patches: PatchStore,
        splits: Splits,
    ) -> Iterator[dg.MaterializeResult[HyperparameterStudy]]:
        config = dict(context.op_execution_context.op_config)
        start = config.pop("recipe")
        recipe = from_config(task.study, config)
        base = from_config(task.variants[searched_variant(task, recipe)], start)
        tags = dagster_link(context)
        with measured() as cost:
            study, run_id = search(
                task, recipe, base, labeled_patches, splits, folders.training, tracking.tracker(),
                tags=tags, warn=context.log.warning,
            )  # fmt: skip
        found = study.best_trial is not None or recipe.trials == 0
        said = f"{study.counted} trials: {dict(study.counts)}"
        context.log.info(said)
        severity = dg.AssetCheckSeverity.WARN
        yield dg.MaterializeResult(
            value=study,
            data_version=dg.DataVersion(study.data_version),
            metadata={
                **study_metadata(study, str(folders.results.joinpath(*key.path) / "report.html")),
                **(run_link(tracking, run_id) if recipe.trials else {}),
                **_dashboard(study_workspace(folders.training, task.name, study.name), recipe),
                **cost,
            },
            check_results=[dg.AssetCheckResult(check_name=check, passed=found, severity=severity, description=said)],
        )

    return hyperparameter_study


def _dashboard(workspace: Path, recipe: StudyRecipe) -> Metadata:
    """The command that shows the trials in Optuna's own dashboard."""
    if recipe.trials == 0:
        return {}
    storage = "<the storage URL>" if recipe.storage else storage_url(recipe, workspace)
    return {"dashboard": dg.MetadataValue.md(f"`pip install optuna-dashboard; optuna-dashboard {storage}`")}


def study_metadata(study: HyperparameterStudy, report: str) -> Metadata:
    """A study: what it recommends, how the trials ended, its figures."""
    metadata: Metadata = {
        "study": dg.MetadataValue.text(study.name or "none"),
        "variant": dg.MetadataValue.text(study.variant),
        **{f"trials_{state}": dg.MetadataValue.int(count) for state, count in study.counts.items()},
        "report": dg.MetadataValue.path(report),
        "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in study.notes)),
        **{name: table(content) for name, content in study.tables.items()},
    }
    if study.best_value is not None:
        metadata[f"best_{study.recipe.metric}"] = dg.MetadataValue.float(study.best_value)
    return {**metadata, **figures(study.figures, study.captions)}
