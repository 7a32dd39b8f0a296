"""Suspicious pairs, by how badly a model reproduces the optical picture compared with the other pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.families.translation.pairs import Pairs
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

    pairs = Pairs(store, predictor.card)
    role = pairs.input_role
    errors, covers = [], []
    for batch in predict_patches(
        predictor, store, rows, batch_size=1, title="Comparing pairs", progress=progress, role=role
    ):
        truth, valid = pairs.reflectance(batch.indices)
        made = np.nan_to_num(batch.answer["reflectance"][0])
        seen = valid[0]
        errors.append(float(np.sqrt(np.mean((made - truth[0])[:, seen] ** 2))) if seen.any() else np.nan)
        covers.append(float(truth[0][:, seen].mean()) if seen.any() else np.nan)
    rmse = np.array(errors)
    middle = np.nanmedian(rmse)
    spread = max(1.4826 * float(np.nanmedian(np.abs(rmse - middle))), 1e-9)
    deviation = (rmse - middle) / spread
    table = pd.DataFrame(
        {
            "store_row": rows,
            "suspicion": np.nan_to_num(np.where(deviation > _ODD_PAIR, deviation, 0.0)),
            "rmse": rmse,
            "mean_reflectance": covers,
        }
    )
    return without_masks(store, table, "rmse", "mean_reflectance")
