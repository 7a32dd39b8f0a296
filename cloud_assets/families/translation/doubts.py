"""Suspicious pairs, by how badly a model reproduces the optical picture compared with the other pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.families.translation.batches import Pairs
from cloud_assets.reports.doubts import Doubts, without_masks
from cloud_assets.reports.predictions import predict_patches

if TYPE_CHECKING:
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import PatchStore

_ODD_PAIR = 2.0
"""Robust standard deviations above the median error from which a pair is listed."""


def doubts(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
    """Compares true with predicted reflectance: a cloud or a shift in the optical picture makes them differ."""
    import pandas as pd

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
    table = pd.DataFrame(
        {
            "store_row": rows,
            "suspicion": np.nan_to_num(np.where(deviation > _ODD_PAIR, deviation, 0.0)),
            "rmse": rmse,
            "mean_reflectance": covers,
        }
    )
    return without_masks(store, table, "rmse", "mean_reflectance")
