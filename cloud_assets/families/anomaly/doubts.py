"""Suspicious labels of whole pictures, by how far a score is on the wrong side of the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.anomaly.normal_split import ANOMALOUS
from cloud_assets.reports.doubts import Doubts, without_masks
from cloud_assets.reports.predictions import predict_patches

if TYPE_CHECKING:
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import PatchStore


def doubts(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
    """Compares labels with scores; the unit of suspicion is the robust deviation of the normals' scores."""
    import pandas as pd

    threshold = predictor.card.threshold
    if threshold is None:
        raise NoUsablePatches(f"{predictor.card.task}: a model without a threshold contradicts no label.")
    batches = predict_patches(predictor, store, rows, batch_size=1, title="Comparing labels", progress=progress)
    scores = np.array([float(batch.answer["score"][0]) for batch in batches])
    labels = store.index["label"].to_numpy()[rows]
    normal = scores[(labels == NORMAL) & np.isfinite(scores)]
    spread = 1.4826 * float(np.median(np.abs(normal - np.median(normal)))) if len(normal) else 0.0
    wrong_side = np.where(labels == NORMAL, scores - threshold.value, threshold.value - scores)
    table = pd.DataFrame(
        {
            "store_row": rows,
            "suspicion": np.nan_to_num(wrong_side / max(spread, 1e-9)).clip(min=0),
            "label": labels,
            "model": np.where(scores >= threshold.value, ANOMALOUS, NORMAL),
            "score": scores,
        }
    )
    return without_masks(store, table, "label", "model")
