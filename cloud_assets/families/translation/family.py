"""Reflectance from radar as a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.family import Family
from cloud_assets.families.translation.card_section import TranslationSection
from cloud_assets.families.translation.evaluation import TranslationEvaluation
from cloud_assets.families.translation.products import PRODUCTS
from cloud_assets.families.translation.recipe import Translation
from cloud_assets.inference.patch_features import rounded

if TYPE_CHECKING:
    from torch import nn

    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.learning.training_run import TrainingRun
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.doubts import Doubts
    from cloud_assets.reports.evaluation import Evaluation


class TranslationFamily(Family):
    """See :class:`Family`."""

    name = "translation"
    recipe = Translation
    evaluator = TranslationEvaluation
    card_section = TranslationSection
    stac_task = "generative"
    products = PRODUCTS

    def train(self, recipe: Translation, run: TrainingRun) -> ModelBundle:
        """See :meth:`Family.train`."""
        from cloud_assets.families.translation.train import train

        return train(recipe, run)

    def predictor(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> Predictor:
        """See :meth:`Family.predictor`."""
        from cloud_assets.families.translation.predictor import TranslationPredictor

        return TranslationPredictor(bundle, device, network)

    def evaluate(
        self,
        evaluator: TranslationEvaluation,
        bundle: ModelBundle,
        store: PatchStore,
        splits: Splits,
        *,
        predictor: Predictor | None = None,
        references: Mapping[str, ModelBundle] | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """See :meth:`Family.evaluate`."""
        from cloud_assets.families.translation.evaluate import evaluate

        predictor = predictor or self.predictor(bundle)
        return evaluate(evaluator, predictor, bundle.version, store, splits, progress)

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """``predicted_mean``, the mean of the predicted reflectance."""
        reflectance = answer["reflectance"][place]
        there = reflectance[np.isfinite(reflectance)]
        return rounded(predicted_mean=float(there.mean(dtype=np.float64))) if there.size else {}

    def doubts(self, predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
        """See :meth:`Family.doubts`."""
        from cloud_assets.families.translation.doubts import doubts

        return doubts(predictor, store, rows, progress)


FAMILY = TranslationFamily()
