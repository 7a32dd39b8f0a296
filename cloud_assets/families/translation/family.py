"""Reflectance from radar as a family of models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.family import Family
from cloud_assets.families.translation.products import PRODUCTS
from cloud_assets.families.translation.recipe import Translation, TranslationEvaluation, TranslationSection
from cloud_assets.inference.drift_reference import rounded
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import Doubts, without_masks
from cloud_assets.reports.predictions import predict_patches

_ODD_PAIR = 2.0  # robust standard deviations above the median error from which a pair is listed


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

    def doubts(self, predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
        """Compares true with predicted reflectance: a cloud or a shift in the optical picture makes them differ."""
        import pandas as pd

        from cloud_assets.families.translation.batches import Pairs

        pairs = Pairs.of(store, predictor.card)
        found = []
        for batch in predict_patches(
            predictor, store, rows, batch_size=1, title="Comparing pairs", progress=progress, role=pairs.roles[0]
        ):
            truth, valid = (part[0] for part in pairs.reflectance(batch.indices))
            error = (np.nan_to_num(batch.answer["reflectance"][0]) - truth)[:, valid]
            found.append((np.sqrt(np.mean(error**2)), truth[:, valid].mean()) if valid.any() else (np.nan, np.nan))
        rmse, covers = np.array(found, float).T
        middle = np.nanmedian(rmse)
        deviation = (rmse - middle) / max(1.4826 * float(np.nanmedian(np.abs(rmse - middle))), 1e-9)
        suspicion = np.nan_to_num(np.where(deviation > _ODD_PAIR, deviation, 0.0))
        table = {"store_row": rows, "suspicion": suspicion, "rmse": rmse, "mean_reflectance": covers}
        return without_masks(store, pd.DataFrame(table), "rmse", "mean_reflectance")


FAMILY = TranslationFamily()
