"""Anomaly score of a scene, pixel by pixel and window by window."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.scene_product import SceneProduct, SceneWork
from cloud_assets.imagery.tiling import WindowResult, predict_densely
from cloud_assets.imagery.writing import RasterForm


def _make_anomaly(work: SceneWork) -> None:
    predictor = work.models.predictor("anomaly", work.source)
    of_windows: list[tuple[float, float]] = []

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        answer = predictor.predict(dn)
        return {"score": answer["score"], "error_map": answer["error_map"][:, np.newaxis]}

    def note(result: WindowResult) -> None:
        """A window's score, weighted by how much of it was observed."""
        if result.outputs is not None:
            of_windows.append((float(result.outputs["score"]), float(result.valid.mean())))

    tiling = work.patch_tiling(predictor.card.patch_size)
    with (
        work.source.read_as(predictor.card.preprocessing.instrument).open(predictor.card.bands) as reader,
        work.draft(ANOMALY) as draft,
    ):
        for block in predict_densely(
            reader,
            tiling,
            infer,
            "error_map",
            batch_size=work.settings.batch_size(tiling),
            workers=work.share.workers,
            each=note,
        ):
            values = np.full(block.valid.shape, np.nan, np.float32)
            if block.values is not None:
                np.copyto(values, block.values[0], where=block.valid)
            draft.write(block.window, values)
            work.progress(values.size)
    if not of_windows:
        return
    scores, weights = np.array(of_windows).T
    threshold = predictor.card.threshold
    work.statistics["anomaly_score"] = float(np.average(scores, weights=weights))
    work.statistics["anomaly_score_highest"] = float(scores.max())
    if threshold is not None:
        work.statistics["anomalous_fraction"] = float(np.average(scores >= threshold.value, weights=weights))


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
