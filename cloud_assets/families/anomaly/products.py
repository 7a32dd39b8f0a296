"""Anomaly score of a scene, pixel by pixel and window by window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.imagery.tiling.dense_prediction import predict_densely
from cloud_assets.imagery.tiling.pipeline import WindowReader, WindowResult
from cloud_assets.imagery.tiling.windows import Tiling
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.inference.predictor import Predictor

ANOMALY_FORM = RasterForm("float32", ("anomaly score",), nodata=float("nan"), overviews="average")
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


def write_anomaly(
    reader: WindowReader,
    tiling: Tiling,
    predictor: Predictor,
    draft: RasterDraft,
    batch_size: int,
    workers: int,
    progress: Callable[[int], None],
) -> AnomalyScores:
    """Writes the anomaly map.

    Args:
        reader: Hands out the bands in the order of the predictor's card.
        tiling: Windows of the size that the model was trained on.
        predictor: An anomaly model.
        draft: Opened draft in :data:`ANOMALY_FORM`.
        batch_size: Windows a call.
        workers: Calls at once.
        progress: Called with the number of finished pixels.

    Returns:
        The scores of the windows.
    """
    threshold = predictor.card.threshold
    scores = AnomalyScores(None if threshold is None else threshold.value)

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        answer = predictor.predict(dn)
        return {SCORE: answer[SCORE], ERROR_MAP: answer[ERROR_MAP][:, np.newaxis]}

    blocks = predict_densely(reader, tiling, infer, ERROR_MAP, batch_size=batch_size, workers=workers, each=scores.add)
    for block in blocks:
        values = np.full(block.valid.shape, np.nan, np.float32)
        if block.values is not None:
            np.copyto(values, block.values[0], where=block.valid)
        draft.write(block.window, values)
        progress(values.size)
    return scores
