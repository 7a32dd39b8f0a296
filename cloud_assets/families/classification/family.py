"""Coverage classes as a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.classification.card_section import ClassificationSection
from cloud_assets.families.classification.evaluation import ClassificationEvaluation
from cloud_assets.families.classification.products import PRODUCTS
from cloud_assets.families.classification.recipe import Classification
from cloud_assets.families.family import Family
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


class ClassificationFamily(Family):
    """See :class:`Family`."""

    name = "classification"
    recipe = Classification
    evaluator = ClassificationEvaluation
    card_section = ClassificationSection
    stac_task = "scene-classification"
    products = PRODUCTS

    def train(self, recipe: Classification, run: TrainingRun) -> ModelBundle:
        """See :meth:`Family.train`."""
        from cloud_assets.families.classification.train import train

        return train(recipe, run)

    def predictor(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> Predictor:
        """See :meth:`Family.predictor`."""
        from cloud_assets.families.classification.predictor import ClassificationPredictor

        return ClassificationPredictor(bundle, device, network)

    def evaluate(
        self,
        evaluator: ClassificationEvaluation,
        bundle: ModelBundle,
        store: PatchStore,
        splits: Splits,
        *,
        predictor: Predictor | None = None,
        references: Mapping[str, ModelBundle] | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """See :meth:`Family.evaluate`."""
        from cloud_assets.families.classification.evaluate import evaluate

        predictor = predictor or self.predictor(bundle)
        return evaluate(evaluator, predictor, bundle.version, store, splits, references or {}, progress)

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """``confidence``, the largest probability, and ``expected_class``."""
        shares = answer["class_probability"][place].astype(np.float64)
        return rounded(confidence=float(shares.max()), expected_class=float(shares @ np.arange(len(shares))))

    def labelled_rows(self, store: PatchStore) -> npt.NDArray[np.int64]:
        """Rows with a labelled pixel."""
        return np.flatnonzero(store.index["cloud_percentage"].notna())

    def doubts(self, predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
        """See :meth:`Family.doubts`."""
        from cloud_assets.families.classification.doubts import doubts

        return doubts(predictor, store, rows, progress)


FAMILY = ClassificationFamily()
