"""Reflectance from radar as a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.family import Family
from cloud_assets.families.translation.products import PRODUCTS
from cloud_assets.families.translation.recipe import Translation, TranslationEvaluation, TranslationSection
from cloud_assets.inference.drift_reference import rounded


class TranslationFamily(Family):
    """See :class:`Family`."""

    name = "translation"
    recipe = Translation
    evaluator = TranslationEvaluation
    card_section = TranslationSection
    stac_task = "generative"
    products = PRODUCTS

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """``predicted_mean``, the mean of the predicted reflectance."""
        reflectance = answer["reflectance"][place]
        there = reflectance[np.isfinite(reflectance)]
        return rounded(predicted_mean=float(there.mean(dtype=np.float64))) if there.size else {}


FAMILY = TranslationFamily()
