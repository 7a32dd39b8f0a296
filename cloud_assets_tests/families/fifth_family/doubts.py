"""Suspicious labels of the fifth family."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import Doubts, without_masks
from cloud_assets_tests.families.fifth_family.predictor import covers, truth_of


def doubts(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
    found, truth = covers(predictor, store, rows), truth_of(store, rows)
    table = pd.DataFrame({"store_row": rows, "suspicion": np.abs(found - truth), "label": truth, "model": found})
    return without_masks(store, table, "label", "model")
