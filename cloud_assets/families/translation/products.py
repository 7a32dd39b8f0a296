"""Reflectance predicted from radar: of a radar scene, and below the clouds of an optical scene.

The cloud-free estimate takes two passes over the scene, both in bounded memory: the first predicts and gathers the
clear pixels for the colour match, the second fills. A second raster says of each pixel whether it was observed.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR
from cloud_assets.families.scene_product import SceneProduct, SceneWork
from cloud_assets.families.translation.gap_filling import (
    BLENDED,
    NOTHING,
    OBSERVED,
    SYNTHETIC,
    ColourMatch,
    fill,
    fill_weight,
)
from cloud_assets.families.translation.recipe import TranslationSection
from cloud_assets.imagery.formats.scene_source import SceneReader, SceneSource
from cloud_assets.imagery.tiling import Tiling, Window, WindowReader, predict_densely
from cloud_assets.imagery.writing import RasterDraft, RasterForm, of_optical, of_reflectance
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.inference.predictor import Predictor

_LARGEST_WINDOW_IN_FULL_PRECISION = 512
_LARGEST_OVERLAP = 0.25  # of a window
_REFLECTANCE = "reflectance"


def translated_bands(card: ModelCard) -> tuple[str, ...]:
    """Common names of the bands that a translation model predicts.

    Raises:
        InvalidModel: If its card does not say.
    """
    target = TranslationSection.of(card).target
    return tuple(target.profile.find(band).common_name for band in target.bands)


def _predicted_reflectance(
    work: SceneWork, reader: WindowReader, predictor: Predictor, bands: int
) -> Iterator[tuple[Window, npt.NDArray[np.float32]]]:
    """The reflectance that a model predicts for a radar scene in decibel, window by window and blended.

    Yields:
        Parts of the scene, and (bands, height, width) reflectance, NaN where there is no radar pixel.
    """

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        return {_REFLECTANCE: predictor.predict(dn)[_REFLECTANCE]}

    # Normalisation goes by fixed statistics, so windows agree where they overlap, and may be larger than patches.
    grid, side = work.source.grid, min(work.settings.window, _LARGEST_WINDOW_IN_FULL_PRECISION)
    overlap = min(work.settings.overlap, int(side * _LARGEST_OVERLAP))
    multiple = math.lcm(32, predictor.card.network.size_multiple)
    tiling = Tiling.plan(grid.height, grid.width, side, overlap, multiple=multiple)
    size = work.settings.batch_size(tiling)
    for block in predict_densely(reader, tiling, infer, _REFLECTANCE, batch_size=size, workers=work.share.workers):
        values = np.nan if block.values is None else block.values
        reflectance = np.where(block.valid, values, np.float32(np.nan)).astype(np.float32, copy=False)
        yield block.window, np.broadcast_to(reflectance, (bands, *block.valid.shape))
        work.progress(block.valid.size)


def _make_cloud_free(work: SceneWork) -> None:
    radar = _radar(work)
    predictor = work.models.predictor("translation", radar)
    with work.draft(CLOUD_FREE) as estimate, work.draft(SYNTHETIC_PIXELS) as synthetic:
        is_matched = _write_cloud_free(work, radar, predictor, estimate, synthetic)
    if share := work.statistics["synthetic_fraction"]:
        work.warnings.append(
            f"{np.round(100 * share, 1):g} % of the cloud-free estimate is predicted from radar, not observed: see "
            "synthetic.tif."
        )
    if not is_matched:
        work.warnings.append("No clear pixel to match the colours of the cloud-free estimate to.")


def _write_cloud_free(
    work: SceneWork, radar: SceneSource, predictor: Predictor, estimate: RasterDraft, synthetic: RasterDraft
) -> bool:
    """Writes both rasters and notes the shares of synthetic pixels (wholly or partly) and of unfilled ones.

    Returns:
        Whether there was any clear pixel to match the colours to.
    """
    source, mask, bands = work.source, work.drafts["mask"], translated_bands(predictor.card)
    metres = source.pixel_metres
    feather = work.settings.feather_metres / metres if metres else 0.0
    reach = math.ceil(feather)
    form = RasterForm("float32", bands, nodata=math.nan)
    match = ColourMatch(source.grid.height, source.grid.width, len(bands))
    with (
        RasterDraft(work.scratch / "prediction.tif", source.grid, form) as prediction,
        radar.open(predictor.card.bands) as reader,
    ):
        for window, reflectance in _predicted_reflectance(work, reader, predictor, len(bands)):
            prediction.write(window, reflectance)
    with source.open(bands) as optical:
        for window, _, predicted in prediction.blocks():
            observed, seen = _read_reflectance(optical, window)
            is_clear = (mask.read(window)[0] == CLEAR) & seen & np.isfinite(predicted).all(axis=0)
            match.add(window, observed, predicted, is_clear)
        is_matched = match.fit()
        filled = unfilled = area = 0
        for window, wide, codes in mask.blocks(halo=reach):
            weight = fill_weight(codes[0], reach, feather)[window.within(wide)]
            observed, seen = _read_reflectance(optical, window)
            pixels, kind = fill(observed, seen, match.correct(window, prediction.read(window)), weight)
            estimate.write(window, source.profile.to_dn(pixels))
            synthetic.write(window, kind)
            filled += int(np.isin(kind, (SYNTHETIC, BLENDED)).sum())
            unfilled += int((seen & (kind == NOTHING)).sum())
            area += int(seen.sum())
    work.statistics |= {"synthetic_fraction": filled / max(area, 1), "unfilled_fraction": unfilled / max(area, 1)}
    return is_matched


def _read_reflectance(reader: SceneReader, window: Window) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    dn = reader.read(window)
    return reader.source.profile.to_physical(dn), reader.valid(dn)


def _radar(work: SceneWork) -> SceneSource:
    if work.radar is None:
        raise ValueError("a cloud-free estimate was planned without a radar scene")
    return work.radar


def _cloud_free_form(work: SceneWork) -> RasterForm:
    """The scene's own bands in the digital numbers of the instrument's profile."""
    profile = work.source.profile
    bands = work.source.resolve(translated_bands(work.models.card("translation", _radar(work))))
    names = tuple(f"{name} ({profile.find(name).common_name})" for name in bands)
    return RasterForm(
        profile.dtype, names, nodata=profile.nodata, overviews="average", scale=profile.scale, offset=profile.offset
    )


def _make_optical(work: SceneWork) -> None:
    predictor = work.models.predictor("translation", work.source)
    with (
        work.source.read_as(predictor.card.preprocessing.instrument).open(predictor.card.bands) as reader,
        work.draft(OPTICAL) as draft,
    ):
        for window, reflectance in _predicted_reflectance(work, reader, predictor, len(draft.form.bands)):
            draft.write(window, reflectance)
    work.warnings.append("The reflectance is predicted from radar: no pixel of it was observed.")


def _optical_form(work: SceneWork) -> RasterForm:
    """Reflectance as float32, NaN for nodata, bands by their own and their common names."""
    target = TranslationSection.of(work.models.card("translation", work.source)).target
    bands = [target.profile.find(band) for band in target.bands]
    names = tuple(f"{band.name} ({band.common_name})" for band in bands)
    return RasterForm("float32", names, nodata=math.nan, unit=target.profile.unit, overviews="average")


SYNTHETIC_PIXELS = SceneProduct(
    "synthetic",
    "Synthetic pixels of the cloud-free estimate",
    "translation",
    make=_make_cloud_free,
    form=RasterForm(
        "uint8",
        ("origin of the pixel",),
        nodata=NOTHING,
        classes={OBSERVED: "observed", SYNTHETIC: "synthetic", BLENDED: "blend of both"},
        colours={OBSERVED: (70, 130, 80, 255), SYNTHETIC: (210, 60, 160, 255), BLENDED: (240, 190, 90, 255)},
    ),
)
CLOUD_FREE = SceneProduct(
    "cloud_free",
    "Cloud-free estimate",
    "translation",
    make=_make_cloud_free,
    form=_cloud_free_form,
    needs=("mask",),
    reads="radar",
    companions=(SYNTHETIC_PIXELS,),
    counts_pixels=True,
    picture=of_reflectance,
    note="partly synthetic",
)
OPTICAL = SceneProduct(
    "optical",
    "Reflectance predicted from radar",
    "translation",
    make=_make_optical,
    form=_optical_form,
    level="backscatter",
    counts_pixels=True,
    shares_nodata=True,
    picture=of_optical,
    note="predicted from radar: no pixel of it was observed",
)
PRODUCTS = (CLOUD_FREE, OPTICAL)
