"""A radar scene of any size as optical reflectance: one GeoTIFF with named bands, on the radar scene's own grid."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidRecipe
from cloud_assets.prediction.predictor import Predictor
from cloud_assets.prediction.translation import target_of
from cloud_assets.scenes.dense_prediction import predict_densely
from cloud_assets.scenes.raster_files import RasterDraft, RasterForm, write_cog
from cloud_assets.scenes.scene_source import SceneSource
from cloud_assets.scenes.windows import Tiling
from cloud_assets.storage import atomic_file

REFLECTANCE = "reflectance"


def _ignore(pixels: int) -> None:
    """Tells nobody."""


def translate_scene(
    radar: SceneSource,
    predictor: Predictor,
    path: Path,
    *,
    window: int = 512,
    overlap: int = 64,
    workers: int = 1,
    progress: Callable[[int], None] = _ignore,
) -> None:
    """Writes the reflectance that a translation model predicts for a radar scene.

    The scene is predicted window by window and blended, so memory does not grow with it. The model's normalisation goes
    by fixed statistics, so windows agree where they overlap.

    Args:
        radar: The radar scene, in decibel.
        predictor: From backscatter to reflectance.
        path: Cloud-Optimised GeoTIFF to make: float32 reflectance, NaN where there is no radar pixel, bands named by
            their own and common names.
        window: Largest side of a window, pixels.
        overlap: Smallest overlap of neighbouring windows, pixels.
        workers: Calls of the model at once.
        progress: Called with the number of finished pixels.

    Raises:
        InvalidRecipe: If the model reads another kind of instrument.
        AbsentBand: If the scene lacks a band of the model.
        WrongInput: If the scene holds linear power.
        StorageFull: If the disk is full.
    """
    card = predictor.card
    target = target_of(card)
    if radar.profile.unit != card.preprocessing.profile.unit:
        raise InvalidRecipe(
            f"{card.task}/{card.variant} reads {card.preprocessing.profile.unit}, {radar.location} holds "
            f"{radar.profile.unit} ({radar.instrument}). Give a Sentinel-1 scene."
        )
    names = [target.profile.find(band) for band in target.bands]
    form = RasterForm(
        "float32",
        tuple(f"{band.name} ({band.common_name})" for band in names),
        nodata=math.nan,
        unit=target.profile.unit,
        overviews="average",
    )
    multiple = math.lcm(32, card.network.size_multiple)
    tiling = Tiling.plan(radar.grid.height, radar.grid.width, window, overlap, multiple=multiple)

    def infer(dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        return {REFLECTANCE: predictor.predict(dn)[REFLECTANCE]}

    with tempfile.TemporaryDirectory(prefix=".translating-", dir=path.parent) as scratch:
        draft = RasterDraft(Path(scratch) / "reflectance.tif", radar.grid, form)
        with draft, radar.open(card.bands) as reader:
            for block in predict_densely(reader, tiling, infer, REFLECTANCE, workers=workers):
                values = np.nan if block.values is None else block.values
                shape = (len(names), *block.valid.shape)
                draft.write(block.window, np.broadcast_to(np.where(block.valid, values, np.float32(np.nan)), shape))
                progress(block.valid.size)
        with atomic_file(path) as unfinished:
            write_cog(
                draft, unfinished, {"model": f"{card.task}/{card.variant}", "synthetic": "reflectance is predicted"}
            )
