"""Suspicious masks, by confident learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import UNLABELLED
from cloud_assets.reports.doubts import LEVELS, Doubt, Doubts, doubt_mask, pictures, pixel_thresholds, quantised, title
from cloud_assets.reports.predictions import predict_patches

if TYPE_CHECKING:
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import PatchStore


def doubts(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
    """Compares masks with confident predictions, pixel by pixel."""
    import pandas as pd

    batches = predict_patches(predictor, store, rows, batch_size=1, title="Comparing masks", progress=progress)
    levels = {
        int(batch.indices[0]): np.where(
            batch.answer["mask"][0] == UNLABELLED, np.uint8(0), quantised(batch.answer["cloud_probability"][0])
        )
        for batch in batches
    }
    truths = {row: np.asarray(store.masks[row]) for row in levels}
    thresholds = pixel_thresholds(list(truths.values()), list(levels.values()))
    found = {row: doubt_mask(truths[row], level, thresholds) for row, level in levels.items()}
    table = pd.DataFrame(
        {
            "store_row": list(found),
            "suspicion": [doubt.suspicion for doubt in found.values()],
            "contradicted_percentage": [doubt.contradicted_percentage for doubt in found.values()],
            "cloud_label_percentage": store.index["cloud_percentage"].to_numpy()[list(found)],
            "cloud_model_percentage": [100 * float((level > LEVELS / 2).mean()) for level in levels.values()],
        }
    )

    def picture(row: int) -> Doubt:
        return Doubt(
            title(store, row, found[row].suspicion),
            pictures(store, row),
            truths[row],
            levels[row].astype(np.float32) / np.float32(LEVELS),
            found[row].contradicted,
        )

    return Doubts(table, picture)
