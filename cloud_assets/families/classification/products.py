"""Cloud coverage of a scene, by cell and as a whole: from its mask and from the classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD
from cloud_assets.datasets.scene import Grid
from cloud_assets.families.classification.card_section import ClassificationSection
from cloud_assets.families.classification.coverage_labels import CoverageClasses
from cloud_assets.families.scene_product import DEFAULT_PATCH, SceneProduct, SceneWork
from cloud_assets.imagery.tiling.cells import add_by_cell
from cloud_assets.imagery.tiling.pipeline import WindowReader, predict_windows
from cloud_assets.imagery.tiling.windows import Axis, Tiling, Window
from cloud_assets.imagery.writing.pictures import percentages
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.inference.predictor import Predictor

UNKNOWN = 255
CLASSES = CoverageClasses()
_CLEAR_COLOUR = np.array([70, 130, 80, 255])
_OVERCAST_COLOUR = np.array([255, 255, 255, 255])


def coverage_form(classes: CoverageClasses) -> RasterForm:
    """The form of the coverage raster; colours run from green to white."""
    shades = np.linspace(_CLEAR_COLOUR, _OVERCAST_COLOUR, len(classes.names)).astype(int)
    return RasterForm(
        dtype="uint8",
        bands=("coverage class", "cloud percentage"),
        nodata=UNKNOWN,
        classes=dict(enumerate(classes.names)),
        colours={number: (int(r), int(g), int(b), int(a)) for number, (r, g, b, a) in enumerate(shades)},
    )


@dataclass(frozen=True)
class Coverage:
    """Cloud cover on a grid of square cells, counted from the scene's upper left corner."""

    cell: int
    """Side of a cell, pixels of the scene."""
    percentage: npt.NDArray[np.float32]
    """(rows, columns) of cloud in the cell's observed pixels, percent; NaN without any."""
    classes: npt.NDArray[np.uint8]
    """(rows, columns) coverage class, 255 without any observed pixel."""

    def bands(self) -> npt.NDArray[np.uint8]:
        """(2, rows, columns): class and whole percentage, 255 for unknown."""
        whole = np.rint(np.nan_to_num(self.percentage, nan=UNKNOWN)).astype(np.uint8)
        return np.stack([self.classes, whole])


def cell_grid(grid: Grid, cell: int) -> Grid:
    """The grid of cells over a scene's grid; the last cells may reach past the scene."""
    a, b, c, d, e, f = grid.transform
    return Grid(
        -(-grid.height // cell), -(-grid.width // cell), grid.crs, (a * cell, b * cell, c, d * cell, e * cell, f)
    )


def unknown_coverage(cells: Grid, cell: int) -> Coverage:
    """What is known about the cells of a scene without a mask: nothing."""
    shape = (cells.height, cells.width)
    return Coverage(cell, np.full(shape, np.nan, np.float32), np.full(shape, UNKNOWN, np.uint8))


def coverage_of_mask(mask: RasterDraft, cell: int, classes: CoverageClasses = CLASSES) -> Coverage:
    """Counts cloud in each cell.

    Args:
        mask: Finished draft of cloud codes, 255 for nodata.
        cell: Side of a cell, pixels.
        classes: Boundaries of the coverage classes.
    """
    cells = cell_grid(mask.grid, cell)
    cloud = np.zeros((cells.height, cells.width), np.int64)
    valid = np.zeros_like(cloud)
    for block, _, pixels in mask.blocks():
        codes = pixels[0]
        add_by_cell(cloud, ((codes == THICK_CLOUD) | (codes == THIN_CLOUD)).astype(np.int64), block, cell)
        add_by_cell(valid, (codes != mask.form.nodata).astype(np.int64), block, cell)
    percentage = np.full(cloud.shape, np.nan, np.float32)
    np.divide(100 * cloud, valid, out=percentage, where=valid > 0, casting="unsafe")
    known = classes.classify(np.nan_to_num(percentage)).astype(np.uint8)
    return Coverage(cell, percentage, np.where(valid > 0, known, np.uint8(UNKNOWN)))


def classify_cells(
    reader: WindowReader, grid: Grid, predictor: Predictor, cell: int, workers: int
) -> npt.NDArray[np.uint8]:
    """Asks the coverage classifier for the class of each cell.

    Returns:
        (rows, columns) class of the cell, 255 where too little was observed to tell.
    """
    cells = cell_grid(grid, cell)
    tiling = Tiling(_side_by_side(grid.height, cell), _side_by_side(grid.width, cell))
    classes = np.full((cells.height, cells.width), UNKNOWN, np.uint8)

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        return {"class": predictor.predict(dn)["class"]}

    for result in predict_windows(reader, tiling, infer, workers=workers):
        if result.outputs is not None:
            classes[result.position] = result.outputs["class"]
    return classes


def percentage_of_classes(classes: npt.NDArray[np.uint8], boundaries: tuple[float, ...]) -> float:
    """Cloud cover of a scene from the classes of its cells, taking the middle of each class; NaN without any."""
    edges = np.array([0.0, *boundaries, 100.0])
    middles = (edges[:-1] + edges[1:]) / 2
    known = classes != UNKNOWN
    return float(middles[classes[known]].mean()) if known.any() else float("nan")


def _side_by_side(length: int, cell: int) -> Axis:
    return Axis(length, cell, tuple(range(0, length, cell)), taper_length=0, taper="gradient")


def _card(work: SceneWork) -> ModelCard | None:
    return work.models.card("classification", work.source) if work.models.has("classification") else None


def _classes(work: SceneWork) -> CoverageClasses:
    card = _card(work)
    return CLASSES if card is None else ClassificationSection.of(card).classes(card)


def _make_coverage(work: SceneWork) -> None:
    card, classes, mask = _card(work), _classes(work), work.drafts.get("mask")
    cell = (card.patch_size if card else None) or DEFAULT_PATCH
    cells = cell_grid(work.source.grid, cell)
    coverage = unknown_coverage(cells, cell) if mask is None else coverage_of_mask(mask, cell, classes)
    statistics = work.statistics
    if mask is not None and not math.isnan(statistics["cloud_percentage"]):
        statistics["coverage_class"] = float(classes.classify(statistics["cloud_percentage"]))
    if card is not None:
        predictor = work.models.predictor("classification", work.source)
        with work.source.read_as(predictor.card.preprocessing.instrument).open(predictor.card.bands) as reader:
            found = classify_cells(reader, work.source.grid, predictor, cell, work.share.workers)
        coverage = Coverage(cell, coverage.percentage, found)
        percentage = percentage_of_classes(found, classes.boundaries)
        statistics["classifier_cloud_percentage"] = percentage
        if not math.isnan(percentage):
            statistics["classifier_coverage_class"] = float(classes.classify(percentage))
    with work.draft(COVERAGE, cells) as draft:
        draft.write(Window(0, 0, cells.height, cells.width), coverage.bands())


COVERAGE = SceneProduct(
    "coverage",
    "Cloud coverage by cell",
    "classification",
    make=_make_coverage,
    form=lambda work: coverage_form(_classes(work)),
    or_from=("mask",),
    picture=percentages,
    note="dark 0 %, bright 100 %",
)
PRODUCTS = (COVERAGE,)
