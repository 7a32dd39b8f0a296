"""Reflectance predicted from radar: of a radar scene, and below the clouds of an optical scene."""

from __future__ import annotations

import math

import numpy as np

from cloud_assets.families.scene_product import SceneProduct, SceneWork
from cloud_assets.families.translation.card_section import TranslationSection
from cloud_assets.families.translation.cloud_free import (
    BLENDED,
    NOTHING,
    OBSERVED,
    SYNTHETIC,
    predicted_reflectance,
    write_cloud_free,
)
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.tiling.windows import Tiling
from cloud_assets.imagery.writing.pictures import of_optical, of_reflectance
from cloud_assets.imagery.writing.raster_files import RasterForm
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.patches.preprocessing import Preprocessing

_LARGEST_WINDOW_IN_FULL_PRECISION = 512
_LARGEST_OVERLAP = 0.25
"""Of a window."""


def optical_form(card: ModelCard) -> RasterForm:
    """The form of the predicted reflectance: float32, NaN for nodata, bands by their own and their common names."""
    target = _target(card)
    bands = [target.profile.find(band) for band in target.bands]
    names = tuple(f"{band.name} ({band.common_name})" for band in bands)
    return RasterForm("float32", names, nodata=math.nan, unit=target.profile.unit, overviews="average")


def translated_bands(card: ModelCard) -> tuple[str, ...]:
    """Common names of the bands that a translation model predicts.

    Raises:
        InvalidModel: If its card does not say.
    """
    target = _target(card)
    return tuple(target.profile.find(band).common_name for band in target.bands)


def _target(card: ModelCard) -> Preprocessing:
    return TranslationSection.of(card).target


def _tiling(source: SceneSource, card: ModelCard, window: int, overlap: int) -> Tiling:
    # Normalisation goes by fixed statistics, so windows may be larger than the patches of the training.
    side = min(window, _LARGEST_WINDOW_IN_FULL_PRECISION)
    multiple = math.lcm(32, card.network.size_multiple)
    overlap = min(overlap, int(side * _LARGEST_OVERLAP))
    return Tiling.plan(source.grid.height, source.grid.width, side, overlap, multiple=multiple)


def _make_cloud_free(work: SceneWork) -> None:
    radar = _radar(work)
    predictor = work.models.predictor("translation", radar)
    tiling = _tiling(work.source, predictor.card, work.settings.window, work.settings.overlap)
    with work.draft(CLOUD_FREE) as estimate, work.draft(SYNTHETIC_PIXELS) as synthetic:
        bands = translated_bands(predictor.card)
        report = write_cloud_free(work, radar, predictor, bands, tiling, estimate, synthetic)
    work.statistics["synthetic_fraction"] = report.synthetic_fraction
    work.statistics["unfilled_fraction"] = report.unfilled_fraction
    if report.synthetic_fraction:
        share = np.round(100 * report.synthetic_fraction, 1)
        work.warnings.append(
            f"{share:g} % of the cloud-free estimate is predicted from radar, not observed: see synthetic.tif."
        )
    if not report.is_matched:
        work.warnings.append("No clear pixel to match the colours of the cloud-free estimate to.")


def _make_optical(work: SceneWork) -> None:
    predictor = work.models.predictor("translation", work.source)
    tiling = _tiling(work.source, predictor.card, work.settings.window, work.settings.overlap)
    with (
        work.source.read_as(predictor.card.preprocessing.instrument).open(predictor.card.bands) as reader,
        work.draft(OPTICAL) as draft,
    ):
        for window, reflectance in predicted_reflectance(work, reader, predictor, tiling, len(draft.form.bands)):
            draft.write(window, reflectance)
    work.warnings.append("The reflectance is predicted from radar: no pixel of it was observed.")


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
    form=lambda work: optical_form(work.models.card("translation", work.source)),
    level="backscatter",
    counts_pixels=True,
    shares_nodata=True,
    picture=of_optical,
    note="predicted from radar: no pixel of it was observed",
)
PRODUCTS = (CLOUD_FREE, OPTICAL)
