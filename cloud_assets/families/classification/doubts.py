"""Suspicious coverage classes, by confident learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.families.classification.card_section import ClassificationSection
from cloud_assets.reports.confident_learning import doubt_classes
from cloud_assets.reports.doubts import Doubts, without_masks
from cloud_assets.reports.predictions import predict_patches

if TYPE_CHECKING:
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import PatchStore


def doubts(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
    """Compares the class of each patch's mask with confident predictions."""
    import pandas as pd

    card = predictor.card
    batches = predict_patches(predictor, store, rows, batch_size=8, title="Comparing classes", progress=progress)
    answers = [(batch.indices, batch.answer["class_probability"]) for batch in batches]
    looked = np.concatenate([indices for indices, _ in answers])
    shares = np.concatenate([probability for _, probability in answers]).astype(np.float64)
    there = np.isfinite(shares).all(axis=1)
    looked, shares = looked[there], shares[there]
    cover = store.index["cloud_percentage"].to_numpy()[looked]
    labels = ClassificationSection.of(card).classes(card).classify(cover)
    suspicion, said = doubt_classes(shares, labels)
    names = np.asarray(card.classes)
    table = pd.DataFrame(
        {
            "store_row": looked,
            "suspicion": suspicion,
            "label": names[labels],
            "model": names[said],
            "cloud_label_percentage": cover,
        }
    )
    return without_masks(store, table, "label", "model")
