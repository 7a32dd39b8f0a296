"""Cloud coverage of a scene, by cell and as a whole: from its mask and from the classifier."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.scene import Grid
from cloud_assets.families.classification.coverage_labels import CLASSES, CoverageClasses
from cloud_assets.families.classification.recipe import ClassificationSection
from cloud_assets.families.scene_product import DEFAULT_PATCH, SceneProduct, SceneWork
from cloud_assets.imagery.geometry import add_by_cell
from cloud_assets.imagery.tiling import Axis, Tiling, Window, WindowReader, predict_windows
from cloud_assets.imagery.writing import RasterDraft, RasterForm, percentages
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.inference.predictor import Predictor

UNKNOWN = 255  # class and percentage of cells without any observed pixel
_CLEAR_COLOUR, _OVERCAST_COLOUR = (70, 130, 80, 255), (255, 255, 255, 255)


def _cell_grid(grid: Grid, cell: int) -> Grid:
    """The grid of cells, squares of so many pixels, over a scene's grid; the last ones may reach past the scene."""
    return grid.scaled(-(-grid.height // cell), -(-grid.width // cell), cell, cell)


def _cell_percentages(mask: RasterDraft | None, cells: Grid, cell: int) -> npt.NDArray[np.float32]:
    """(rows, columns) of cloud in the observed pixels of each cell, percent; NaN without any, or without a mask."""
    cloud = np.zeros((cells.height, cells.width), np.int64)
    valid = np.zeros_like(cloud)
    for block, _, pixels in () if mask is None else mask.blocks():
        codes = pixels[0]
        add_by_cell(cloud, np.isin(codes, (THICK_CLOUD, THIN_CLOUD)).astype(np.int64), block, cell)
        add_by_cell(valid, (codes != UNLABELLED).astype(np.int64), block, cell)
    percentage = np.full(cloud.shape, np.nan, np.float32)
    np.divide(100 * cloud, valid, out=percentage, where=valid > 0, casting="unsafe")
    return percentage


def classify_cells(
    reader: WindowReader, grid: Grid, predictor: Predictor, cell: int, workers: int
) -> npt.NDArray[np.uint8]:
    """Asks the classifier for the class of each cell, (rows, columns); 255 where too little was observed to tell."""
    cells = _cell_grid(grid, cell)
    axes = (Axis(side, cell, tuple(range(0, side, cell)), 0) for side in (grid.height, grid.width))
    classes = np.full((cells.height, cells.width), UNKNOWN, np.uint8)

    def infer(dn: npt.NDArray[Any], _: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        return {"class": predictor.predict(dn)["class"]}

    for result in predict_windows(reader, Tiling(*axes), infer, workers=workers):
        if result.outputs is not None:
            classes[result.position] = result.outputs["class"]
    return classes


def percentage_of_classes(classes: npt.NDArray[np.uint8], boundaries: tuple[float, ...]) -> float:
    """Cloud cover of a scene from the classes of its cells, taking the middle of each class; NaN without any."""
    edges = np.array([0.0, *boundaries, 100.0])
    middles = (edges[:-1] + edges[1:]) / 2
    known = classes != UNKNOWN
    return float(middles[classes[known]].mean()) if known.any() else float("nan")


def _model(work: SceneWork) -> tuple[ModelCard | None, CoverageClasses]:
    """The card of the classifier, if there is one, and its classes or the usual ones."""
    if not work.models.has("classification"):
        return None, CLASSES
    card = work.models.card("classification", work.source)
    return card, ClassificationSection.of(card).classes(card)


def _form(work: SceneWork) -> RasterForm:
    """The form of the coverage raster; colours run from green to white."""
    names = _model(work)[1].names
    shades: list[Any] = np.linspace(_CLEAR_COLOUR, _OVERCAST_COLOUR, len(names)).astype(int).tolist()
    return RasterForm(
        dtype="uint8",
        bands=("coverage class", "cloud percentage"),
        nodata=UNKNOWN,
        classes=dict(enumerate(names)),
        colours={number: tuple(shade) for number, shade in enumerate(shades)},
    )


def _make_coverage(work: SceneWork) -> None:
    (card, classes), mask = _model(work), work.drafts.get("mask")
    cell = (card.patch_size if card else None) or DEFAULT_PATCH
    cells = _cell_grid(work.source.grid, cell)
    percentage = _cell_percentages(mask, cells, cell)
    found = np.where(np.isnan(percentage), UNKNOWN, classes.classify(np.nan_to_num(percentage))).astype(np.uint8)
    statistics = work.statistics
    if mask is not None and not math.isnan(statistics["cloud_percentage"]):
        statistics["coverage_class"] = float(classes.classify(statistics["cloud_percentage"]))
    if card is not None:
        predictor = work.models.predictor("classification", work.source)
        with work.source.read_as(predictor.card.preprocessing.instrument).open(predictor.card.bands) as reader:
            found = classify_cells(reader, work.source.grid, predictor, cell, work.share.workers)
        cover = percentage_of_classes(found, classes.boundaries)
        statistics["classifier_cloud_percentage"] = cover
        if not math.isnan(cover):
            statistics["classifier_coverage_class"] = float(classes.classify(cover))
    with work.draft(COVERAGE, cells) as draft:
        whole = np.rint(np.nan_to_num(percentage, nan=UNKNOWN)).astype(np.uint8)
        draft.write(Window(0, 0, cells.height, cells.width), np.stack([found, whole]))


COVERAGE = SceneProduct(
    "coverage",
    "Cloud coverage by cell",
    "classification",
    make=_make_coverage,
    form=_form,
    or_from=("mask",),
    picture=percentages,
    note="dark 0 %, bright 100 %",
)
PRODUCTS = (COVERAGE,)
