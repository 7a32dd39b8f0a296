"""Anomaly scores as a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.families.anomaly.card_section import AnomalySection
from cloud_assets.families.anomaly.evaluation import AnomalyEvaluation
from cloud_assets.families.anomaly.normal_split import ANOMALOUS
from cloud_assets.families.anomaly.products import PRODUCTS
from cloud_assets.families.anomaly.recipe import AnomalyRecipe
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


class AnomalyFamily(Family):
    """See :class:`Family`."""

    name = "anomaly"
    recipe = AnomalyRecipe
    evaluator = AnomalyEvaluation
    card_section = AnomalySection
    stac_task = "detection"
    products = PRODUCTS
    why_not_exported = "scores are made from the latent code too, which an exported network does not show"

    def train(self, recipe: AnomalyRecipe, run: TrainingRun) -> ModelBundle:
        """See :meth:`Family.train`."""
        from cloud_assets.families.anomaly.train import train

        return train(recipe, run)

    def predictor(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> Predictor:
        """See :meth:`Family.predictor`."""
        from cloud_assets.families.anomaly.predictor import AnomalyPredictor

        return AnomalyPredictor(bundle, device, network)

    def evaluate(
        self,
        evaluator: AnomalyEvaluation,
        bundle: ModelBundle,
        store: PatchStore,
        splits: Splits,
        *,
        predictor: Predictor | None = None,
        references: Mapping[str, ModelBundle] | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """See :meth:`Family.evaluate`."""
        from cloud_assets.families.anomaly.evaluate import evaluate

        predictor = predictor or self.predictor(bundle)
        return evaluate(evaluator, predictor, bundle.version, store, splits, progress)

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """``score``."""
        return rounded(score=float(answer["score"][place]))

    def labelled_rows(self, store: PatchStore) -> npt.NDArray[np.int64]:
        """Rows that are labelled as normal or anomalous."""
        return np.flatnonzero(store.index["label"].isin([NORMAL, ANOMALOUS]))

    def doubts(self, predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
        """See :meth:`Family.doubts`."""
        from cloud_assets.families.anomaly.doubts import doubts

        return doubts(predictor, store, rows, progress)


FAMILY = AnomalyFamily()
