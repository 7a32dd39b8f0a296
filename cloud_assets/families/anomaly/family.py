"""Anomaly scores as a family of models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.anomaly.normal_split import ANOMALOUS
from cloud_assets.families.anomaly.products import PRODUCTS
from cloud_assets.families.anomaly.recipe import AnomalyEvaluation, AnomalyRecipe, AnomalySection
from cloud_assets.families.family import Family
from cloud_assets.inference.drift_reference import rounded
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import Doubts, without_masks


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

    def doubts(self, predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
        """How far scores are on the wrong side of the threshold, in robust deviations of the normals' scores."""
        import pandas as pd

        from cloud_assets.families.anomaly.metrics import robust_deviation, score_patches

        threshold = predictor.card.threshold
        if threshold is None:
            raise NoUsablePatches(f"{predictor.card.task}: the model has no threshold to doubt labels by: train one.")
        scores = score_patches(predictor, store, rows, "Comparing labels", progress)["score"]
        labels = store.index["label"].to_numpy()[rows]
        normal = scores[(labels == NORMAL) & np.isfinite(scores)]
        spread = robust_deviation(normal) if len(normal) else 0.0
        wrong_side = np.where(labels == NORMAL, scores - threshold.value, threshold.value - scores)
        table = {
            "store_row": rows,
            "suspicion": np.nan_to_num(wrong_side / max(spread, 1e-9)).clip(min=0),
            "label": labels,
            "model": np.where(scores >= threshold.value, ANOMALOUS, NORMAL),
            "score": scores,
        }
        return without_masks(store, pd.DataFrame(table), "label", "model")


FAMILY = AnomalyFamily()
