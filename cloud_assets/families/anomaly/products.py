"""Anomaly score of a scene, pixel by pixel and window by window."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.scene_product import SceneProduct, SceneWork
from cloud_assets.imagery.tiling.dense_prediction import predict_densely
from cloud_assets.imagery.tiling.pipeline import WindowResult
from cloud_assets.imagery.writing.raster_files import RasterForm

SCORE = "score"
ERROR_MAP = "error_map"


@dataclass
class AnomalyScores:
    """Scores of a scene's windows."""

    threshold: float | None
    scores: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, result: WindowResult) -> None:
        """Notes a window's score, weighted by how much of it was observed."""
        if result.outputs is not None:
            self.scores.append(float(result.outputs[SCORE]))
            self.weights.append(float(result.valid.mean()))

    def summary(self) -> dict[str, float]:
        """Mean and highest score of the windows, and the share of windows over the model's threshold."""
        if not self.scores:
            return {}
        scores, weights = np.array(self.scores), np.array(self.weights)
        found = {"anomaly_score": float(np.average(scores, weights=weights)), "anomaly_score_highest": scores.max()}
        if self.threshold is not None:
            found["anomalous_fraction"] = float(np.average(scores >= self.threshold, weights=weights))
        return {name: float(value) for name, value in found.items()}


def _make_anomaly(work: SceneWork) -> None:
    predictor = work.models.predictor("anomaly", work.source)
    threshold = predictor.card.threshold
    scores = AnomalyScores(None if threshold is None else threshold.value)

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        answer = predictor.predict(dn)
        return {SCORE: answer[SCORE], ERROR_MAP: answer[ERROR_MAP][:, np.newaxis]}

    tiling = work.patch_tiling(predictor.card.patch_size)
    with (
        work.source.read_as(predictor.card.preprocessing.instrument).open(predictor.card.bands) as reader,
        work.draft(ANOMALY) as draft,
    ):
        for block in predict_densely(
            reader,
            tiling,
            infer,
            ERROR_MAP,
            batch_size=work.settings.batch_size(tiling),
            workers=work.share.workers,
            each=scores.add,
        ):
            values = np.full(block.valid.shape, np.nan, np.float32)
            if block.values is not None:
                np.copyto(values, block.values[0], where=block.valid)
            draft.write(block.window, values)
            work.progress(values.size)
    work.statistics.update(scores.summary())


ANOMALY = SceneProduct(
    "anomaly",
    "Anomaly score",
    "anomaly",
    make=_make_anomaly,
    form=RasterForm("float32", ("anomaly score",), nodata=float("nan"), overviews="average"),
    counts_pixels=True,
    shares_nodata=True,
    note="dark usual, bright unusual",
)
PRODUCTS = (ANOMALY,)
