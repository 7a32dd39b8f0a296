"""Coverage classes as a family of models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.classification.products import PRODUCTS
from cloud_assets.families.classification.recipe import Classification, ClassificationEvaluation, ClassificationSection
from cloud_assets.families.family import Family
from cloud_assets.inference.drift_reference import rounded
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import Doubts, doubt_classes, without_masks
from cloud_assets.reports.predictions import predict_patches


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

    def doubts(self, predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
        """Compares the class of each patch's mask with confident predictions, by confident learning."""
        import pandas as pd

        card = predictor.card
        batches = predict_patches(predictor, store, rows, batch_size=8, title="Comparing classes", progress=progress)
        shares = np.concatenate([batch.answer["class_probability"] for batch in batches]).astype(np.float64)
        there = np.isfinite(shares).all(axis=1)
        cover = store.index["cloud_percentage"].to_numpy()[rows[there]]
        labels = ClassificationSection.of(card).classes(card).classify(cover)
        suspicion, said = doubt_classes(shares[there], labels)
        names = np.asarray(card.classes)
        table = {"store_row": rows[there], "suspicion": suspicion, "label": names[labels], "model": names[said]}
        return without_masks(store, pd.DataFrame({**table, "cloud_label_percentage": cover}), "label", "model")


FAMILY = ClassificationFamily()
