"""Class mask and cloud probability of a scene."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.scene import Grid
from cloud_assets.families.segmentation.predictor import SegmentationPredictor
from cloud_assets.imagery.tiling.dense_prediction import predict_densely
from cloud_assets.imagery.tiling.pipeline import WindowReader
from cloud_assets.imagery.tiling.windows import Tiling, Window
from cloud_assets.imagery.writing.raster_files import RasterDraft, RasterForm
from cloud_assets.inference.back_ends import Parallelism, threads_of_each_call

MASK_COLOURS = {
    CLEAR: (70, 130, 80, 255),
    THICK_CLOUD: (255, 255, 255, 255),
    THIN_CLOUD: (160, 200, 235, 255),
    CLOUD_SHADOW: (60, 40, 90, 255),
    UNLABELLED: (0, 0, 0, 0),
}
NO_PERCENTAGE = 255
_OUTPUT = "probability"
PROBABILITY_FORM = RasterForm(
    dtype="uint8", bands=("cloud probability",), nodata=NO_PERCENTAGE, unit="percent", overviews="average"
)


@dataclass(frozen=True)
class SegmentedBlock:
    """A part of a scene that is finished."""

    window: Window
    mask: npt.NDArray[np.uint8]
    """(height, width) cloud codes, 255 for nodata."""
    cloud_probability: npt.NDArray[np.float32]
    """(height, width), 0 to 1, NaN for nodata."""


@dataclass
class ClassCounts:
    """How many pixels of a scene are of which class."""

    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """By cloud code."""

    def add(self, mask: npt.NDArray[np.uint8]) -> None:
        """Counts a part of the scene."""
        self.pixels += np.bincount(mask.ravel(), minlength=256)

    @property
    def valid(self) -> int:
        """Pixels that were observed."""
        return int(self.pixels.sum() - self.pixels[UNLABELLED])

    def percentage(self, *codes: int) -> float:
        """Share of some classes in the observed pixels, percent; NaN without any."""
        return float(100 * self.pixels[list(codes)].sum() / self.valid) if self.valid else float("nan")

    def summary(self, classes: Mapping[int, str]) -> dict[str, float]:
        """Percentages of the observed pixels, and the share of observed ones in the scene.

        Args:
            classes: Cloud code -> name, for those that the model tells apart.
        """
        return {
            "valid_fraction": self.valid / float(self.pixels.sum()),
            "cloud_percentage": self.percentage(THICK_CLOUD, THIN_CLOUD),
            **{f"{name.replace(' ', '_')}_percentage": self.percentage(code) for code, name in classes.items()},
        }


def mask_classes(classes: Sequence[str]) -> dict[int, str]:
    """Names of the cloud codes that a model tells apart; one that knows only cloud does not know its thickness."""
    return {CLEAR: "clear", THICK_CLOUD: "cloud"} if len(classes) == 2 else dict(CLASS_NAMES)


def mask_form(classes: Sequence[str]) -> RasterForm:
    """The form of a class mask by a model of these classes."""
    return RasterForm("uint8", ("cloud class",), UNLABELLED, classes=mask_classes(classes), colours=MASK_COLOURS)


def segmentation_tiling(grid: Grid, predictor: SegmentationPredictor, window: int, overlap: int) -> Tiling:
    """Windows of at most ``window`` pixels whose surroundings at the scene's edge are those of single patches."""
    multiple = predictor.card.network.size_multiple
    return Tiling.plan(grid.height, grid.width, window, overlap, border=predictor.border, multiple=multiple)


def segment(
    reader: WindowReader,
    tiling: Tiling,
    predictor: SegmentationPredictor,
    batch_size: int,
    share: Parallelism,
    augment: bool | None = None,
) -> Iterator[SegmentedBlock]:
    """Segments a scene, on disk or in memory: windows go through the network, are blended, and only then decided.

    Args:
        reader: Hands out the bands in the order of the predictor's card.
        tiling: The grid of windows.
        predictor: The model, its preprocessing made to fit the instrument of the scene.
        batch_size: Windows a call of the network.
        share: Calls of the network at once.
        augment: Average over four orientations; None: as the model's card says.

    Yields:
        Parts of the scene that together cover it exactly once.
    """

    def infer(dn: npt.NDArray[Any], inside: Sequence[tuple[slice, slice]]) -> dict[str, npt.NDArray[Any]]:
        probability = predictor.window_probability(dn, inside, augment=augment)
        # Of two classes one is enough: half the work of blending.
        return {_OUTPUT: probability[:, 1:] if probability.shape[1] == 2 else probability}

    with threads_of_each_call(share):
        for block in predict_densely(reader, tiling, infer, _OUTPUT, batch_size=batch_size, workers=share.workers):
            if block.values is None:
                nothing = np.full(block.valid.shape, np.nan, np.float32)
                yield SegmentedBlock(block.window, np.full(block.valid.shape, UNLABELLED, np.uint8), nothing)
            else:
                values = np.concatenate([1 - block.values, block.values]) if len(block.values) == 1 else block.values
                answer = predictor.decided(values[np.newaxis], block.valid[np.newaxis])
                cloud = np.where(block.valid, answer["cloud_probability"][0], np.float32(np.nan))
                yield SegmentedBlock(block.window, answer["mask"][0], cloud)


def write_masks(
    blocks: Iterator[SegmentedBlock], mask: RasterDraft, probability: RasterDraft, progress: Callable[[int], None]
) -> ClassCounts:
    """Writes class mask and cloud probability.

    Args:
        blocks: From :func:`segment`.
        mask: Opened draft in the form of :func:`mask_form`.
        probability: Opened draft in :data:`PROBABILITY_FORM`.
        progress: Called with the number of finished pixels.

    Returns:
        Pixels of each class.
    """
    counts = ClassCounts()
    for block in blocks:
        mask.write(block.window, block.mask)
        probability.write(block.window, percent(block.cloud_probability))
        counts.add(block.mask)
        progress(block.mask.size)
    return counts


def percent(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Probabilities 0 to 1 as whole percentages, 255 where not a number."""
    scaled = np.nan_to_num(probability, nan=NO_PERCENTAGE / 100) * np.float32(100)
    rounded: npt.NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return rounded
