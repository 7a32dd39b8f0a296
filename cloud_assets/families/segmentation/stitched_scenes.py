"""The official score of 38-Cloud: patch predictions stitched to whole Landsat scenes.

As published with the data set (https://github.com/SorourMo/38-Cloud-A-Cloud-Segmentation-Dataset, evaluation.m;
Mohajerani & Saeedi, "Cloud-Net", IGARSS 2019, https://arxiv.org/abs/1901.10077): the cloud probability is binarised at
12/255, patches are put side by side by row and column, the padding that had centred the scene is cut off, and
precision, recall, specificity, Jaccard index and accuracy over ALL pixels of a scene, nodata too, are averaged.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from cloud_assets.bands import UNLABELLED
from cloud_assets.reports.statistics import COUNT_COLUMNS, Counts, confusion_counts

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.patches.store import PatchStore

_NAME = re.compile(r"patch_\d+_(?P<row>\d+)_by_(?P<column>\d+)_(?P<scene>.+)")
_METRICS = {
    "precision": "official_precision",
    "recall": "official_recall",
    "specificity": "official_specificity",
    "iou": "official_jaccard",
    "accuracy": "official_accuracy",
}


class Cloud38StitchedScenes(BaseModel, frozen=True, extra="forbid"):
    """How 38-Cloud's test scenes are scored officially."""

    threshold: float = Field(12 / 255, ge=0, lt=1, description="Cloud where the probability is larger.")
    patch_size: int = Field(384, ge=1, description="Edge of the data set's patches in pixels.")

    def scenes_of(self, store: "PatchStore", indices: npt.NDArray[np.int64]) -> "StitchedScenes | None":
        """A collector of predictions for whole scenes; None if no row of the test split belongs to one with a truth."""
        places: dict[int, Place] = {}
        truths: dict[str, Path] = {}
        columns = ["scene_id", "source", "row", "col"]
        for index, scene_id, source, row, column in store.index.loc[indices, columns].itertuples(name=None):
            match = _NAME.fullmatch(scene_id)
            if match is None or not source:
                continue
            scene = match["scene"]
            if scene not in truths:
                truths[scene] = Path(source).parents[1] / "Entire_scene_gts" / f"edited_corrected_gts_{scene}.TIF"
            if truths[scene].is_file():
                places[index] = Place(scene, int(match["row"]), int(match["column"]), row, column)
        if not places:
            return None
        return StitchedScenes(self, places, {place.scene: truths[place.scene] for place in places.values()})


@dataclass(frozen=True)
class Place:
    """Where a patch of the store belongs in its scene."""

    scene: str
    grid_row: int  # row of the data set's patch in the scene, counted from 1
    grid_column: int  # column of the data set's patch in the scene, counted from 1
    row: int  # first row in the data set's patch, pixels
    column: int  # first column in the data set's patch, pixels


class StitchedScenes:
    """Gathers predictions and scores each scene as soon as its last patch has come, so that few are in memory at once.

    ``places`` tells where each row of the store belongs, ``truths`` is the raster of each scene: not 0 is cloud.
    """

    def __init__(
        self, protocol: Cloud38StitchedScenes, places: Mapping[int, Place], truths: Mapping[str, Path]
    ) -> None:
        self._protocol, self._places, self._truths = protocol, places, truths
        self._waiting = Counter(place.scene for place in places.values())
        self._truth: dict[str, npt.NDArray[np.bool_]] = {}
        self._predicted: dict[str, npt.NDArray[np.bool_]] = {}
        self._counts: dict[str, Counts] = {}
        self._cells = {scene: set[tuple[int, int]]() for scene in truths}
        self._absent: dict[str, int] = {}

    def update(
        self, indices: npt.NDArray[np.int64], mask: npt.NDArray[np.uint8], cloud_probability: npt.NDArray[np.float32]
    ) -> None:
        """Adds a batch as :class:`SegmentationScores` does; nodata is clear in the official score.

        Patches that belong to no scene are passed over.
        """
        for index, codes, probability in zip(indices.tolist(), mask, cloud_probability, strict=True):
            place = self._places.get(index)
            if place is None:
                continue
            self._put(place, (probability > self._protocol.threshold) & (codes != UNLABELLED))
            self._waiting[place.scene] -= 1
            if not self._waiting[place.scene]:
                self._finish(place.scene)

    def table(self) -> "pd.DataFrame":
        """One row a scene, worst Jaccard index first: metrics, counts, and how many of its patches were not there."""
        import pandas as pd

        from cloud_assets.families.segmentation.metrics import cloud_metrics

        rows = []
        for scene, counts in self._counts.items():
            metrics = cloud_metrics(counts)
            named = {
                official.removeprefix("official_"): metrics.get(name, np.nan) for name, official in _METRICS.items()
            }
            numbers = dict(zip(COUNT_COLUMNS, counts.tolist(), strict=True))
            rows.append({"group": scene, **named, "absent_patches": self._absent[scene], **numbers})
        return pd.DataFrame(rows).sort_values("jaccard", ignore_index=True)

    def metrics(self) -> dict[str, float]:
        """Unweighted means over the scenes, each over those scenes where it is defined."""
        table = self.table()
        means = {name: table[name.removeprefix("official_")].mean() for name in _METRICS.values()}
        return {name: float(mean) for name, mean in means.items() if np.isfinite(mean)}

    def _put(self, place: Place, cloud: npt.NDArray[np.bool_]) -> None:
        if place.scene not in self._predicted:
            self._begin(place.scene)
        canvas, size = self._predicted[place.scene], self._protocol.patch_size
        self._cells[place.scene].add((place.grid_row, place.grid_column))
        # A window that was filled up beyond the edge of the data set's patch holds nothing there.
        height = min(cloud.shape[0], size - place.row)
        width = min(cloud.shape[1], size - place.column)
        top = (place.grid_row - 1) * size + place.row
        left = (place.grid_column - 1) * size + place.column
        canvas[top : top + height, left : left + width] = cloud[:height, :width]

    def _begin(self, scene: str) -> None:
        from cloud_assets.datasets.rasters import read_bands

        truth = read_bands(str(self._truths[scene]), [1], None, None)[0] > 0
        size = self._protocol.patch_size
        mine = [place for place in self._places.values() if place.scene == scene]
        # Blank patches are not in the store: the truth's size tells how many rows and columns the scene was cut into.
        rows = max(-(-truth.shape[0] // size), *(place.grid_row for place in mine))
        columns = max(-(-truth.shape[1] // size), *(place.grid_column for place in mine))
        self._truth[scene] = truth
        self._predicted[scene] = np.zeros((rows * size, columns * size), bool)

    def _finish(self, scene: str) -> None:
        truth, padded = self._truth.pop(scene), self._predicted.pop(scene)
        height, width = truth.shape
        top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
        size = self._protocol.patch_size
        cells = (padded.shape[0] // size) * (padded.shape[1] // size)
        self._absent[scene] = cells - len(self._cells[scene])
        self._counts[scene] = confusion_counts(truth, padded[top : top + height, left : left + width])
