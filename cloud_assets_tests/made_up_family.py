"""A family without any training: its recipes and evaluators make models and numbers up themselves."""

from typing import Any, ClassVar

from cloud_assets import families
from cloud_assets.families import load_predictor
from cloud_assets.families.family import Family
from cloud_assets.inference.bundle import CardSection, ModelBundle
from cloud_assets.inference.predictor import Predictor
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation, Evaluator

MADE_UP = "made_up"


class MadeUpFamily(Family):
    name = MADE_UP
    recipe = Recipe
    evaluator = Evaluator
    card_section = CardSection
    references: ClassVar[dict[str, str]] = {}
    """Versions of the models that the last evaluation was to compare with."""

    def train(self, recipe: Any, run: TrainingRun) -> ModelBundle:
        bundle: ModelBundle = recipe.make(run)
        return bundle

    def predictor(self, bundle: ModelBundle, device: str = "auto", network: Any = None) -> Predictor:
        return load_predictor(bundle.with_card(family="segmentation"), device)

    def evaluate(
        self, evaluator: Any, bundle: ModelBundle, store: PatchStore, splits: Splits, **given: Any
    ) -> Evaluation:
        MadeUpFamily.references = {task: model.version for task, model in (given.get("references") or {}).items()}
        evaluation: Evaluation = evaluator.judge(bundle, store, splits)
        return evaluation


FAMILY = MadeUpFamily()
families.MODULES[MADE_UP] = __name__  # on import, so that it is known in processes that unpickle a recipe too
