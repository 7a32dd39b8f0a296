"""Optical reflectance predicted from a radar scene, on that scene's grid."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.translation.card_section import TranslationSection
from cloud_assets.imagery.tiling.dense_prediction import predict_densely
from cloud_assets.imagery.tiling.pipeline import WindowReader
from cloud_assets.imagery.tiling.windows import Tiling
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.inference.card import ModelCard
from cloud_assets.inference.predictor import Predictor

REFLECTANCE = "reflectance"


def optical_form(card: ModelCard) -> RasterForm:
    """The form of the predicted reflectance: float32, NaN for nodata, bands by their own and their common names."""
    target = TranslationSection.of(card).target
    bands = [target.profile.find(band) for band in target.bands]
    names = tuple(f"{band.name} ({band.common_name})" for band in bands)
    return RasterForm("float32", names, nodata=math.nan, unit=target.profile.unit, overviews="average")


def write_optical(
    reader: WindowReader,
    tiling: Tiling,
    predictor: Predictor,
    draft: RasterDraft,
    *,
    batch_size: int = 1,
    workers: int = 1,
    progress: Callable[[int], None],
) -> None:
    """Writes the reflectance that a translation model predicts for a radar scene.

    The scene is predicted window by window and blended, so memory does not grow with it. The model's normalisation goes
    by fixed statistics, so windows agree where they overlap.

    Args:
        reader: The radar scene, in decibel, its bands in the order of the model.
        tiling: The grid of windows.
        predictor: From backscatter to reflectance.
        draft: Opened draft of :func:`optical_form`; NaN where there is no radar pixel.
        batch_size: Windows a call of the model.
        workers: Calls of the model at once.
        progress: Called with the number of finished pixels.

    Raises:
        InvalidData: If the scene holds linear power.
        StorageFull: If the disk is full.
    """
    bands = len(draft.form.bands)

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        return {REFLECTANCE: predictor.predict(dn)[REFLECTANCE]}

    for block in predict_densely(reader, tiling, infer, REFLECTANCE, batch_size=batch_size, workers=workers):
        values = np.nan if block.values is None else block.values
        reflectance = np.where(block.valid, values, np.float32(np.nan))
        draft.write(block.window, np.broadcast_to(reflectance, (bands, *block.valid.shape)))
        progress(block.valid.size)
