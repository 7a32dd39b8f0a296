"""The cloud-free estimate: clouds and shadows of a scene filled with what the radar model predicts beneath them.

Two passes over the scene, both in bounded memory: the first predicts and gathers the clear pixels for the colour match,
the second fills. A second raster says of each pixel whether it was observed; no filled pixel goes unmarked.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, UNLABELLED
from cloud_assets.families.scene_product import SceneWork
from cloud_assets.families.translation.gap_filling import ColourMatch
from cloud_assets.imagery.formats.scene_reader import SceneReader
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.tiling.dense_prediction import predict_densely
from cloud_assets.imagery.tiling.pipeline import WindowReader
from cloud_assets.imagery.tiling.windows import Tiling, Window
from cloud_assets.imagery.writing.distances import distance_within
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.inference.predictor import Predictor

OBSERVED, SYNTHETIC, BLENDED, NOTHING = 0, 1, 2, 255
REFLECTANCE = "reflectance"


@dataclass(frozen=True)
class FillReport:
    """What was done to a scene."""

    synthetic_fraction: float
    """Share of the observed area's pixels that are wholly or partly synthetic."""
    unfilled_fraction: float
    """Share that is cloudy and has no radar pixel either: nodata in the estimate."""
    is_matched: bool
    """Whether there was any clear pixel to match the colours to."""


def write_cloud_free(
    work: SceneWork,
    radar: SceneSource,
    predictor: Predictor,
    bands: Sequence[str],
    tiling: Tiling,
    estimate: RasterDraft,
    synthetic: RasterDraft,
) -> FillReport:
    """Writes the estimate and the raster that says which of its pixels are synthetic.

    Args:
        work: The optical scene, its finished mask among the drafts.
        radar: The radar scene, on the optical scene's grid.
        predictor: From radar to reflectance of ``bands``.
        bands: Common names of the predicted bands.
        tiling: Windows of the prediction.
        estimate: Opened draft.
        synthetic: Opened draft.

    Returns:
        How much was filled.
    """
    source, mask = work.source, work.drafts["mask"]
    metres = source.pixel_metres
    feather = work.settings.feather_metres / metres if metres else 0.0
    reach = math.ceil(feather)
    form = RasterForm("float32", tuple(bands), nodata=math.nan)
    match = ColourMatch(source.grid.height, source.grid.width, len(bands))
    with (
        RasterDraft(work.scratch / "prediction.tif", source.grid, form) as prediction,
        radar.open(predictor.card.bands) as reader,
    ):
        for window, reflectance in predicted_reflectance(work, reader, predictor, tiling, len(bands)):
            prediction.write(window, reflectance)
    with source.open(bands) as optical:
        for window, _, predicted in prediction.blocks():
            observed, seen = _reflectance(optical, window)
            is_clear = (mask.read(window)[0] == CLEAR) & seen & np.isfinite(predicted).all(axis=0)
            match.add(window, observed, predicted, is_clear)
        is_matched = match.fit()
        filled = unfilled = area = 0
        for window, wide, codes in mask.blocks(halo=reach):
            weight = fill_weight(codes[0], reach, feather)[window.within(wide)]
            observed, seen = _reflectance(optical, window)
            predicted = prediction.read(window)
            pixels, kind = _fill(observed, seen, match.correct(window, predicted), weight)
            estimate.write(window, source.profile.to_dn(pixels))
            synthetic.write(window, kind)
            filled += int(np.isin(kind, (SYNTHETIC, BLENDED)).sum())
            unfilled += int((seen & (kind == NOTHING)).sum())
            area += int(seen.sum())
    return FillReport(filled / max(area, 1), unfilled / max(area, 1), is_matched)


def predicted_reflectance(
    work: SceneWork, reader: WindowReader, predictor: Predictor, tiling: Tiling, bands: int
) -> Iterator[tuple[Window, npt.NDArray[np.float32]]]:
    """The reflectance that a translation model predicts for a radar scene, window by window and blended.

    The model's normalisation goes by fixed statistics, so windows agree where they overlap.

    Args:
        work: Batch size, workers and progress.
        reader: The radar scene, in decibel, its bands in the order of the model.
        predictor: From backscatter to reflectance.
        tiling: The grid of windows.
        bands: Number of predicted bands.

    Yields:
        Parts of the scene, and (bands, height, width) reflectance, NaN where there is no radar pixel.

    Raises:
        InvalidData: If the scene holds linear power.
    """

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        return {REFLECTANCE: predictor.predict(dn)[REFLECTANCE]}

    size = work.settings.batch_size(tiling)
    for block in predict_densely(reader, tiling, infer, REFLECTANCE, batch_size=size, workers=work.share.workers):
        values = np.nan if block.values is None else block.values
        reflectance = np.where(block.valid, values, np.float32(np.nan)).astype(np.float32, copy=False)
        yield block.window, np.broadcast_to(reflectance, (bands, *block.valid.shape))
        work.progress(block.valid.size)


def fill_weight(codes: npt.NDArray[np.uint8], reach: int, feather: float) -> npt.NDArray[np.float32]:
    """Share of the prediction in the estimate.

    Args:
        codes: (H, W) cloud codes, 255 for nodata.
        reach: Whole pixels within which distances are looked for.
        feather: Pixels from a cloud's edge to where nothing is filled.

    Returns:
        (H, W): 1 on clouds and shadows, falling to 0 at ``feather`` pixels from them.
    """
    is_hidden = (codes != CLEAR) & (codes != UNLABELLED)
    if reach < 1:
        hidden: npt.NDArray[np.float32] = is_hidden.astype(np.float32)
        return hidden
    distance = distance_within(is_hidden, reach)
    # Half a cosine: no kink where the blend begins and ends.
    near = np.clip(1 - distance / np.float32(feather + 1), 0, 1)
    weight: npt.NDArray[np.float32] = 0.5 - 0.5 * np.cos(np.float32(np.pi) * near)
    return weight


def _fill(
    observed: npt.NDArray[np.float32],
    seen: npt.NDArray[np.bool_],
    predicted: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    has_prediction = np.isfinite(predicted).all(axis=0)
    # Without a radar pixel the edge of a cloud stays as observed, and its inside has nothing.
    weight = np.where(has_prediction, weight, np.where(weight < 1, np.float32(0), np.float32(np.nan)))
    mixed = np.where(weight > 0, observed + weight * (np.nan_to_num(predicted) - observed), observed)
    estimate = np.where(seen & np.isfinite(weight), mixed, np.float32(np.nan))
    kind = np.where(weight >= 1, SYNTHETIC, np.where(weight > 0, BLENDED, OBSERVED)).astype(np.uint8)
    kind[~seen | ~np.isfinite(weight)] = NOTHING
    return estimate, kind


def _reflectance(reader: SceneReader, window: Window) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    dn = reader.read(window)
    return reader.source.profile.to_physical(dn), reader.valid(dn)
