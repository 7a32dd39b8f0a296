"""The cloud-free estimate: clouds and shadows of a scene filled with what the radar model predicts beneath them.

Two passes over the scene, both in bounded memory: the first predicts and gathers the clear pixels for the colour match,
the second fills. A second raster says of each pixel whether it was observed; no filled pixel goes unmarked.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, UNLABELLED
from cloud_assets.families.translation.card_section import TranslationSection
from cloud_assets.families.translation.gap_filling import ColourMatch
from cloud_assets.imagery.formats.scene_reader import SceneReader
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.tiling.dense_prediction import Block, predict_densely
from cloud_assets.imagery.tiling.windows import Tiling, Window
from cloud_assets.imagery.writing.distances import distance_within
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.inference.card import ModelCard
from cloud_assets.inference.predictor import Predictor

OBSERVED, SYNTHETIC, BLENDED, NOTHING = 0, 1, 2, 255
SYNTHETIC_FORM = RasterForm(
    "uint8",
    ("origin of the pixel",),
    nodata=NOTHING,
    classes={OBSERVED: "observed", SYNTHETIC: "synthetic", BLENDED: "blend of both"},
    colours={OBSERVED: (70, 130, 80, 255), SYNTHETIC: (210, 60, 160, 255), BLENDED: (240, 190, 90, 255)},
)
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


def cloud_free_form(source: SceneSource, bands: Sequence[str]) -> RasterForm:
    """The form of the estimate: the scene's own bands in the digital numbers of the instrument's profile."""
    profile = source.profile
    names = tuple(f"{name} ({profile.find(name).common_name})" for name in source.resolve(bands))
    return RasterForm(
        profile.dtype, names, nodata=profile.nodata, overviews="average", scale=profile.scale, offset=profile.offset
    )


def translated_bands(card: ModelCard) -> tuple[str, ...]:
    """Common names of the bands that a translation model predicts.

    Raises:
        InvalidModel: If its card does not say.
    """
    target = TranslationSection.of(card).target
    return tuple(target.profile.find(band).common_name for band in target.bands)


def write_cloud_free(
    source: SceneSource,
    radar: SceneSource,
    predictor: Predictor,
    bands: Sequence[str],
    mask: RasterDraft,
    drafts: tuple[RasterDraft, RasterDraft],
    scratch: Path,
    tiling: Tiling,
    feather: float,
    *,
    batch_size: int = 1,
    workers: int = 1,
    progress: Callable[[int], None],
) -> FillReport:
    """Writes the estimate and the raster that says which of its pixels are synthetic.

    Args:
        source: The optical scene.
        radar: The radar scene, on the optical scene's grid.
        predictor: From radar to reflectance of ``bands``.
        bands: Common names of the predicted bands.
        mask: Finished draft of cloud codes, 255 for nodata.
        drafts: Opened drafts of the estimate and of the synthetic pixels.
        scratch: Folder for the prediction.
        tiling: Windows of the prediction.
        feather: Pixels over which observed pixels beside a filled area are blended into it.
        batch_size: Windows a call of the model.
        workers: Calls of the model at once.
        progress: Called with the number of finished pixels.

    Returns:
        How much was filled.
    """
    form = RasterForm("float32", tuple(bands), nodata=math.nan)
    match = ColourMatch(source.grid.height, source.grid.width, len(bands))
    reach = math.ceil(feather)

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        return {REFLECTANCE: predictor.predict(dn)[REFLECTANCE]}

    with source.open(bands) as optical:
        with (
            RasterDraft(scratch / "prediction.tif", source.grid, form) as prediction,
            radar.open(predictor.card.bands) as reader,
        ):
            blocks = predict_densely(reader, tiling, infer, REFLECTANCE, batch_size=batch_size, workers=workers)
            for block in blocks:
                prediction.write(block.window, _predicted(block, len(bands)))
                progress(block.valid.size)
        for window, _, predicted in prediction.blocks():
            observed, seen = _reflectance(optical, window)
            is_clear = (mask.read(window)[0] == CLEAR) & seen & np.isfinite(predicted).all(axis=0)
            match.add(window, observed, predicted, is_clear)
        is_matched = match.fit()
        filled = unfilled = area = 0
        for window, wide, codes in mask.blocks(halo=reach):
            weight = fill_weight(codes[0], reach, feather)[_inside(window, wide)]
            observed, seen = _reflectance(optical, window)
            predicted = prediction.read(window)
            estimate, kind = _fill(observed, seen, match.correct(window, predicted), weight)
            drafts[0].write(window, source.profile.to_dn(estimate))
            drafts[1].write(window, kind)
            filled += int(np.isin(kind, (SYNTHETIC, BLENDED)).sum())
            unfilled += int((seen & (kind == NOTHING)).sum())
            area += int(seen.sum())
    return FillReport(filled / max(area, 1), unfilled / max(area, 1), is_matched)


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


def _predicted(block: Block, bands: int) -> npt.NDArray[np.float32]:
    if block.values is None:
        return np.full((bands, *block.valid.shape), np.nan, np.float32)
    predicted: npt.NDArray[np.float32] = np.where(block.valid, block.values, np.float32(np.nan))
    return predicted


def _reflectance(reader: SceneReader, window: Window) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    dn = reader.read(window)
    return reader.source.profile.to_physical(dn), reader.valid(dn)


def _inside(window: Window, wide: Window) -> tuple[slice, slice]:
    top, left = window.row - wide.row, window.column - wide.column
    return slice(top, top + window.height), slice(left, left + window.width)
