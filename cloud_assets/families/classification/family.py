"""Coverage classes as a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.classification.card_section import ClassificationSection
from cloud_assets.families.classification.evaluation import ClassificationEvaluation
from cloud_assets.families.classification.products import PRODUCTS
from cloud_assets.families.classification.recipe import Classification
from cloud_assets.families.family import Family
from cloud_assets.inference.drift_reference import rounded
from cloud_assets.patches.store import PatchStore


class ClassificationFamily(Family):
    """See :class:`Family`."""

    name = "classification"
    recipe = Classification
    evaluator = ClassificationEvaluation
    card_section = ClassificationSection
    stac_task = "scene-classification"
    products = PRODUCTS

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """``confidence``, the largest probability, and ``expected_class``."""
        shares = answer["class_probability"][place].astype(np.float64)
        return rounded(confidence=float(shares.max()), expected_class=float(shares @ np.arange(len(shares))))

    def labelled_rows(self, store: PatchStore) -> npt.NDArray[np.int64]:
        """Rows with a labelled pixel."""
        return np.flatnonzero(store.index["cloud_percentage"].notna())


FAMILY = ClassificationFamily()
