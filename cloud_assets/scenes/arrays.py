"""Masks of arrays that are in memory: the core of the scene products without files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.families.segmentation.products import segment, segmentation_tiling
from cloud_assets.imagery.formats.array_reader import ArrayReader
from cloud_assets.imagery.formats.scene_source import SceneBand, SceneSource
from cloud_assets.inference.back_ends import Parallelism
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.scene_models import SceneModels

if TYPE_CHECKING:
    from cloud_assets.families.segmentation.predictor import SegmentationPredictor


def predict_array(
    dn: npt.NDArray[Any],
    bands: Sequence[str],
    model: ModelBundle | SceneModels,
    *,
    instrument: str,
    options: SceneOptions | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Segments an array of any height and width, window by window as a scene on disk.

    Args:
        dn: (C, H, W) digital numbers.
        bands: Own or common names of the C bands, in their order; more than the model needs is fine.
        model: A segmentation model, or loaded models.
        instrument: Key in :data:`cloud_assets.bands.INSTRUMENTS` of the instrument that took them.
        options: Windows, back end and so on.

    Returns:
        ``mask`` (H, W) uint8 cloud codes, 255 for nodata; ``cloud_probability`` (H, W) float32, NaN for nodata.

    Raises:
        InvalidScene: If there is no such instrument.
        InvalidData: If names and bands do not match; if a band of the model is missing.
        InvalidScene: If the model was trained on another processing level.
    """
    if instrument not in INSTRUMENTS:
        raise InvalidScene(f"there is no instrument {instrument!r}; there are {', '.join(INSTRUMENTS)}.")
    profile = INSTRUMENTS[instrument]
    names = [profile.find(band).name for band in bands]
    if dn.ndim != 3 or len(names) != len(dn) or len(set(names)) != len(names):
        raise InvalidData(
            f"{len(bands)} different band names go with an array ({len(bands)}, height, width), not {dn.shape}."
        )
    chosen = options or SceneOptions()
    champions = model if isinstance(model, SceneModels) else SceneModels([model], chosen, dn[0].size / 1e6)
    grid = Grid(dn.shape[1], dn.shape[2], None, (1, 0, 0, 0, 1, 0))
    in_memory = {name: SceneBand(RasterBand("array")) for name in names}
    source = SceneSource("array", instrument, in_memory, grid, "the array", "")
    predictor = cast("SegmentationPredictor", champions.predictor("segmentation", source))
    order = [names.index(name) for name in source.resolve(predictor.card.bands)]
    tiling = segmentation_tiling(grid, predictor, chosen.window, chosen.overlap)
    batch_size = chosen.batch_size(tiling.vertical.size, tiling.horizontal.size)
    mask = np.empty(dn.shape[1:], np.uint8)
    probability = np.empty(dn.shape[1:], np.float32)
    reader, share = ArrayReader(dn[order], profile), Parallelism.of_machine()
    for block in segment(reader, tiling, predictor, batch_size, share, chosen.test_time_augmentation):
        mask[block.window.slices] = block.mask
        probability[block.window.slices] = block.cloud_probability
    return {"mask": mask, "cloud_probability": probability}
