"""Class mask, cloud probability and usable pixels of a scene."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.scene import Grid
from cloud_assets.families.scene_product import ProductSettings, SceneProduct, SceneWork
from cloud_assets.families.segmentation.shadow_geometry import ShadowGeometry
from cloud_assets.imagery.geometry import grow
from cloud_assets.imagery.tiling import Tiling, Window, WindowReader, predict_densely
from cloud_assets.imagery.writing import RasterDraft, RasterForm, percentages
from cloud_assets.inference.device import Parallelism

if TYPE_CHECKING:
    from cloud_assets.families.segmentation.predictor import SegmentationPredictor

MASK_COLOURS = {
    CLEAR: (70, 130, 80, 255),
    THICK_CLOUD: (255, 255, 255, 255),
    THIN_CLOUD: (160, 200, 235, 255),
    CLOUD_SHADOW: (60, 40, 90, 255),
    UNLABELLED: (0, 0, 0, 0),
}
NO_PERCENTAGE = 255
VALID, INVALID = 1, 0
_OUTPUT = "probability"


@dataclass(frozen=True)
class SegmentedBlock:
    """A part of a scene that is finished."""

    window: Window
    mask: npt.NDArray[np.uint8]  # (height, width) cloud codes, 255 for nodata
    cloud_probability: npt.NDArray[np.float32]  # (height, width), 0 to 1, NaN for nodata


def segment(
    reader: WindowReader, grid: Grid, predictor: "SegmentationPredictor", settings: ProductSettings, share: Parallelism
) -> Iterator[SegmentedBlock]:
    """Segments a scene, on disk or in memory: windows go through the network, are blended, and only then decided.

    The reader hands out the bands in the order of the predictor's card. The blocks cover the scene exactly once.
    """
    network = predictor.card.network
    settings, workers = settings.within_memory(predictor.pixel_bytes, share.workers)
    # At the scene's edge windows have the surroundings of single patches.
    sizes: dict[str, Any] = {"multiple": network.window_multiple, "grid": network.cost_multiple}
    tiling = Tiling.plan(grid.height, grid.width, settings.window, settings.overlap, border=predictor.border, **sizes)

    def infer(dn: npt.NDArray[Any], inside: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        probability = predictor.window_probability(dn, inside, augment=settings.test_time_augmentation)
        # Of two classes one is enough: half the work of blending.
        return {_OUTPUT: probability[:, 1:] if probability.shape[1] == 2 else probability}

    batch_size = settings.batch_size(tiling)
    for block in predict_densely(reader, tiling, infer, _OUTPUT, batch_size=batch_size, workers=workers):
        if block.values is None:
            nothing = np.full(block.valid.shape, np.nan, np.float32)
            yield SegmentedBlock(block.window, np.full(block.valid.shape, UNLABELLED, np.uint8), nothing)
        else:
            values = np.concatenate([1 - block.values, block.values]) if len(block.values) == 1 else block.values
            answer = predictor.decided(values[np.newaxis], block.valid[np.newaxis])
            cloud = np.where(block.valid, answer["cloud_probability"][0], np.float32(np.nan))
            yield SegmentedBlock(block.window, answer["mask"][0], cloud)


def percent(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Probabilities 0 to 1 as whole percentages, 255 where not a number."""
    scaled = np.fmin(probability, np.float32(NO_PERCENTAGE / 100)) * np.float32(100)  # the number, where one is none
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _mask_form(work: SceneWork) -> RasterForm:
    """The form of a class mask; a model that knows only cloud does not know its thickness."""
    is_binary = len(work.models.card("segmentation", work.source).classes) == 2
    classes = {CLEAR: "clear", THICK_CLOUD: "cloud"} if is_binary else dict(CLASS_NAMES)
    return RasterForm("uint8", ("cloud class",), UNLABELLED, classes=classes, colours=MASK_COLOURS)


def _statistics(pixels: npt.NDArray[np.int64], classes: Mapping[int, str]) -> dict[str, float]:
    """Percentages of the observed pixels, NaN without any, from the number of pixels (256,) of each cloud code."""
    valid = int(pixels.sum() - pixels[UNLABELLED])

    def percentage(*codes: int) -> float:
        return float(100 * pixels[list(codes)].sum() / valid) if valid else float("nan")

    return {
        "valid_fraction": valid / float(pixels.sum()),
        "cloud_percentage": percentage(THICK_CLOUD, THIN_CLOUD),
        **{f"{name.replace(' ', '_')}_percentage": percentage(code) for code, name in classes.items()},
    }


def _make_masks(work: SceneWork) -> None:
    predictor = cast("SegmentationPredictor", work.models.predictor("segmentation", work.source))
    work.back_end = work.models.back_end("segmentation", work.source)
    radius = predictor.outline_radius(work.source.pixel_metres)
    is_checked = work.settings.shadow_geometry and CLASS_NAMES[CLOUD_SHADOW] in predictor.card.classes
    geometry = ShadowGeometry(work.source.grid, sun) if is_checked and (sun := work.source.sun) else None
    with (
        work.source.read_as(predictor.card.preprocessing.instrument).open(predictor.card.bands) as reader,
        RasterDraft(work.scratch / "without_outline.tif", work.source.grid, _mask_form(work)) as decided,
        work.draft(PROBABILITY) as probability,
    ):
        for block in segment(reader, work.source.grid, predictor, work.settings, work.share):
            decided.write(block.window, block.mask)
            probability.write(block.window, percent(block.cloud_probability))
            if geometry is not None:
                geometry.add(block.window, block.mask)
            work.progress(block.mask.size)
    pixels = np.zeros(256, np.int64)
    with work.draft(MASK) as mask:
        for window, wide, codes in decided.blocks(halo=math.ceil(radius)):
            outlined = predictor.outlined(codes[0], radius)[window.within(wide)]
            final = outlined if geometry is None else geometry.cleared(window, outlined)
            mask.write(window, final)
            pixels += np.bincount(final.ravel(), minlength=256)
    if geometry is not None:
        valid = int(pixels.sum() - pixels[UNLABELLED])
        work.statistics["doubted_shadow_percentage"] = 100 * geometry.doubted_pixels / max(valid, 1)
    work.statistics.update(_statistics(pixels, mask.form.classes))
    if pixels.sum() == pixels[UNLABELLED]:
        work.warnings.append("The scene holds no valid pixel: all products are nodata.")


def _make_validity(work: SceneWork) -> None:
    """Which pixels can be relied on: clear, observed, and far enough from every cloud and shadow."""
    metres = work.source.pixel_metres
    radius = 0.0 if metres is None else work.settings.validity_buffer_metres / metres
    if metres is None and work.settings.validity_buffer_metres:
        work.warnings.append("Without a coordinate reference system metres are unknown: usable pixels have no buffer.")
    with work.draft(VALIDITY) as validity:
        usable, mask = 0, work.drafts["mask"]
        for block, wide, pixels in mask.blocks(halo=math.ceil(radius)):
            codes = pixels[0]
            # Nodata is invalid but does not grow: what lies beside a scene's edge was observed well.
            is_near = grow((codes != CLEAR) & (codes != UNLABELLED), radius)
            is_valid = ((codes == CLEAR) & ~is_near)[block.within(wide)]
            usable += int(np.count_nonzero(is_valid))
            validity.write(block, is_valid.astype(np.uint8))
        work.statistics["usable_fraction"] = usable / (mask.grid.height * mask.grid.width)


MASK = SceneProduct(
    "mask",
    "Cloud mask",
    "segmentation",
    make=_make_masks,
    form=_mask_form,
    any_back_end=True,
    counts_pixels=True,
    shares_nodata=True,
)
PROBABILITY = SceneProduct(
    "probability",
    "Cloud probability",
    "segmentation",
    make=_make_masks,
    form=RasterForm("uint8", ("cloud probability",), nodata=NO_PERCENTAGE, unit="percent", overviews="average"),
    counts_pixels=True,
    shares_nodata=True,
    picture=percentages,
    note="dark 0 %, bright 100 %",
)
VALIDITY = SceneProduct(
    "validity",
    "Usable pixels",
    "segmentation",
    make=_make_validity,
    form=RasterForm(
        "uint8",
        ("usable pixels",),
        classes={INVALID: "not usable", VALID: "usable"},
        colours={INVALID: (60, 60, 60, 255), VALID: (90, 180, 120, 255)},
    ),
    needs=("mask",),
)
PRODUCTS = (MASK, PROBABILITY, VALIDITY)
