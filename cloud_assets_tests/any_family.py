"""Trains and evaluates by recipes and evaluators of any family, as the lifecycle does."""

from typing import Any

from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation, Evaluator


def train_by(recipe: Recipe, run: TrainingRun) -> ModelBundle:
    return family_of(recipe).train(recipe, run)


def evaluate_by(
    evaluator: Evaluator, model: Any, store: PatchStore, splits: Splits, **references: ModelBundle
) -> Evaluation:
    """Evaluates a model, or anything that has a card and a ``predict`` like one."""
    is_bundle = isinstance(model, ModelBundle)
    return family_of(evaluator).evaluate(
        evaluator,
        model if is_bundle else ModelBundle(model.card, {}),
        store,
        splits,
        predictor=None if is_bundle else model,
        references=references,
        progress=False,
    )
