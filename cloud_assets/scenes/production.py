"""The steps that make a scene's rasters: each writes drafts into a scratch folder and notes statistics."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from cloud_assets.datasets.scene import Grid
from cloud_assets.families.anomaly.products import ANOMALY_FORM, write_anomaly
from cloud_assets.families.classification.card_section import ClassificationSection
from cloud_assets.families.classification.products import (
    CLASSES,
    DEFAULT_CELL,
    Coverage,
    cell_grid,
    classify_cells,
    coverage_form,
    coverage_of_mask,
    percentage_of_classes,
    unknown_coverage,
)
from cloud_assets.families.segmentation.products import (
    PROBABILITY_FORM,
    mask_classes,
    mask_form,
    segment,
    segmentation_tiling,
    write_masks,
)
from cloud_assets.families.segmentation.validity import VALIDITY_FORM, write_validity
from cloud_assets.families.translation.cloud_free import (
    SYNTHETIC_FORM,
    cloud_free_form,
    translated_bands,
    write_cloud_free,
)
from cloud_assets.families.translation.products import optical_form, write_optical
from cloud_assets.imagery.tiling.windows import Tiling, Window
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.inference.back_ends import Parallelism, threads_of_each_call
from cloud_assets.inference.card import ModelCard
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.planning import ScenePlan
from cloud_assets.scenes.scene_models import SceneModels

if TYPE_CHECKING:
    from cloud_assets.families.segmentation.predictor import SegmentationPredictor

Progress = Callable[[int], None]
_OVERLAP_OF_PATCHES = 4
"""Windows of models that know one patch size overlap by this part of it."""
_LARGEST_WINDOW_IN_FULL_PRECISION = 512


@dataclass
class SceneWork:
    """A scene while its rasters are made."""

    plan: ScenePlan
    models: SceneModels
    options: SceneOptions
    scratch: Path
    progress: Progress
    drafts: dict[str, RasterDraft] = field(default_factory=dict)
    """Product -> its finished draft."""
    statistics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    share: Parallelism = field(default_factory=Parallelism.of_machine)
    back_end: str = ""

    def run(self) -> None:
        """Makes all planned rasters."""
        products = self.plan.products
        if self.plan.segments:
            self._masks()
        if "validity" in products:
            self._validity()
        with threads_of_each_call(self.share):
            if "coverage" in products:
                self._coverage()
            if "anomaly" in products:
                self._anomaly()
            if "cloud_free" in products:
                self._cloud_free()
            if "optical" in products:
                self._optical()

    def _draft(self, product: str, form: RasterForm, grid: Grid | None = None) -> RasterDraft:
        draft = RasterDraft(self.scratch / f"{product}.tif", grid or self.plan.source.grid, form)
        self.drafts[product] = draft
        return draft

    def _masks(self) -> None:
        source = self.plan.source
        predictor = cast("SegmentationPredictor", self.models.predictor("segmentation", source))
        card = predictor.card
        tiling = segmentation_tiling(source.grid, predictor, self.options.window, self.options.overlap)
        batch_size = self.options.batch_size(tiling.vertical.size, tiling.horizontal.size)
        self.back_end = self.models.back_end("segmentation", source)
        with (
            source.open(card.bands) as reader,
            self._draft("mask", mask_form(card.classes)) as mask,
            self._draft("probability", PROBABILITY_FORM) as probability,
        ):
            augment = self.options.test_time_augmentation
            blocks = segment(reader, tiling, predictor, batch_size, self.share, augment)
            counts = write_masks(blocks, mask, probability, self.progress)
        self.statistics.update(counts.summary(mask_classes(card.classes)))
        if not counts.valid:
            self.warnings.append("The scene holds no valid pixel: all products are nodata.")

    def _validity(self) -> None:
        metres = self.plan.source.pixel_metres
        radius = 0.0 if metres is None else self.options.validity_buffer_metres / metres
        if metres is None and self.options.validity_buffer_metres:
            self.warnings.append(
                "Without a coordinate reference system metres are unknown: the validity mask has no buffer."
            )
        with self._draft("validity", VALIDITY_FORM) as validity:
            self.statistics["usable_fraction"] = write_validity(self.drafts["mask"], validity, radius)

    def _coverage(self) -> None:
        has_classifier = self.models.has("classification")
        card = self.models.suited("classification", self.plan.source)[0].card if has_classifier else None
        classes = CLASSES if card is None else ClassificationSection.of(card).classes(card)
        cell = (card.patch_size if card else None) or DEFAULT_CELL
        grid = self.plan.source.grid
        cells = cell_grid(grid, cell)
        coverage = (
            coverage_of_mask(self.drafts["mask"], cell, classes)
            if self.plan.segments
            else unknown_coverage(cells, cell)
        )
        if self.plan.segments and not math.isnan(self.statistics["cloud_percentage"]):
            self.statistics["coverage_class"] = float(classes.classify(self.statistics["cloud_percentage"]))
        if card is not None:
            predictor = self.models.predictor("classification", self.plan.source)
            with self.plan.source.open(predictor.card.bands) as reader:
                found = classify_cells(reader, grid, predictor, cell, self.share.workers)
            coverage = Coverage(cell, coverage.percentage, found)
            percentage = percentage_of_classes(found, classes.boundaries)
            self.statistics["classifier_cloud_percentage"] = percentage
            if not math.isnan(percentage):
                self.statistics["classifier_coverage_class"] = float(classes.classify(percentage))
        with self._draft("coverage", coverage_form(classes), cells) as draft:
            draft.write(Window(0, 0, cells.height, cells.width), coverage.bands())

    def _anomaly(self) -> None:
        source = self.plan.source
        predictor = self.models.predictor("anomaly", source)
        tiling = self._patch_tiling(predictor.card.patch_size)
        batch_size = self.options.batch_size(tiling.vertical.size, tiling.horizontal.size)
        with source.open(predictor.card.bands) as reader, self._draft("anomaly", ANOMALY_FORM) as draft:
            scores = write_anomaly(reader, tiling, predictor, draft, batch_size, self.share.workers, self.progress)
        self.statistics.update(scores.summary())

    def _cloud_free(self) -> None:
        source, radar = self.plan.source, self.plan.radar
        if radar is None:
            raise ValueError("a cloud-free estimate was planned without a radar scene")
        predictor = self.models.predictor("translation", radar)
        bands = translated_bands(predictor.card)
        tiling = self._translation_tiling(predictor.card)
        metres = source.pixel_metres
        feather = self.options.feather_metres / metres if metres else 0.0
        with (
            self._draft("cloud_free", cloud_free_form(source, bands)) as estimate,
            self._draft("synthetic", SYNTHETIC_FORM) as synthetic,
        ):
            report = write_cloud_free(
                source,
                radar,
                predictor,
                bands,
                self.drafts["mask"],
                (estimate, synthetic),
                self.scratch,
                tiling,
                feather,
                batch_size=self.options.batch_size(tiling.vertical.size, tiling.horizontal.size),
                workers=self.share.workers,
                progress=self.progress,
            )
        self.statistics["synthetic_fraction"] = report.synthetic_fraction
        self.statistics["unfilled_fraction"] = report.unfilled_fraction
        if report.synthetic_fraction:
            share = np.round(100 * report.synthetic_fraction, 1)
            self.warnings.append(
                f"{share:g} % of the cloud-free estimate is predicted from radar, not observed: see synthetic.tif."
            )
        if not report.is_matched:
            self.warnings.append("No clear pixel to match the colours of the cloud-free estimate to.")

    def _optical(self) -> None:
        source = self.plan.source
        predictor = self.models.predictor("translation", source)
        tiling = self._translation_tiling(predictor.card)
        batch_size = self.options.batch_size(tiling.vertical.size, tiling.horizontal.size)
        with source.open(predictor.card.bands) as reader, self._draft("optical", optical_form(predictor.card)) as draft:
            write_optical(
                reader,
                tiling,
                predictor,
                draft,
                batch_size=batch_size,
                workers=self.share.workers,
                progress=self.progress,
            )
        self.warnings.append("The reflectance is predicted from radar: no pixel of it was observed.")

    def _translation_tiling(self, card: ModelCard) -> Tiling:
        # Its normalisation goes by fixed statistics, so windows may be larger than the patches of the training.
        grid, multiple = self.plan.source.grid, math.lcm(32, card.network.size_multiple)
        side = min(self.options.window, _LARGEST_WINDOW_IN_FULL_PRECISION)
        overlap = min(self.options.overlap, side // _OVERLAP_OF_PATCHES)
        return Tiling.plan(grid.height, grid.width, side, overlap, multiple=multiple)

    def _patch_tiling(self, patch_size: int | None) -> Tiling:
        """Windows of the size that a model was trained on."""
        size = patch_size or DEFAULT_CELL
        grid = self.plan.source.grid
        return Tiling.plan(grid.height, grid.width, size, size // _OVERLAP_OF_PATCHES, fixed=True)
