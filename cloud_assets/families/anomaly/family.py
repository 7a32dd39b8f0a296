"""Anomaly scores as a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.families.anomaly.card_section import AnomalySection
from cloud_assets.families.anomaly.evaluation import AnomalyEvaluation
from cloud_assets.families.anomaly.normal_split import ANOMALOUS
from cloud_assets.families.anomaly.products import PRODUCTS
from cloud_assets.families.anomaly.recipe import AnomalyRecipe
from cloud_assets.families.family import Family
from cloud_assets.inference.drift_reference import rounded
from cloud_assets.patches.store import PatchStore


class AnomalyFamily(Family):
    """See :class:`Family`."""

    name = "anomaly"
    recipe = AnomalyRecipe
    evaluator = AnomalyEvaluation
    card_section = AnomalySection
    stac_task = "detection"
    products = PRODUCTS
    why_not_exported = "scores are made from the latent code too, which an exported network does not show"

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """``score``."""
        return rounded(score=float(answer["score"][place]))

    def labelled_rows(self, store: PatchStore) -> npt.NDArray[np.int64]:
        """Rows that are labelled as normal or anomalous."""
        return np.flatnonzero(store.index["label"].isin([NORMAL, ANOMALOUS]))


FAMILY = AnomalyFamily()
