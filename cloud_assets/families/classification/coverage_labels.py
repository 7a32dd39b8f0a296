"""Coverage classes: how much of a patch, or of any window in it, is cloud.

The class of a window is always that of its own pixels, so small sets can be stretched by random windows without a
wrong label; a window never leaves its patch, so it never leaves its patch's split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.patches.store import PatchStore

Integers = npt.NDArray[np.int64]
_CANDIDATES = 6  # windows drawn a window that is kept, so that there is a choice when classes are evened out


class CoverageClasses(BaseModel, frozen=True, extra="forbid"):
    """Classes by percentage of cloud; a boundary belongs to the class above it, 100 % to the last."""

    boundaries: tuple[Annotated[float, Field(gt=0, lt=100)], ...] = Field(
        (25.0, 50.0, 75.0), min_length=1, description="Percentages between the classes, rising."
    )
    names: tuple[str, ...] = Field(
        ("clear", "scattered", "broken", "overcast"), description="Name of each class, from clear to overcast."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise InvalidRecipe(f"coverage boundaries must rise, not {self.boundaries}.")
        if len(self.names) != len(self.boundaries) + 1 or len(set(self.names)) != len(self.names):
            raise InvalidRecipe(
                f"{len(self.boundaries)} boundaries make {len(self.boundaries) + 1} classes, which need as many "
                f"different names; got {', '.join(self.names)}."
            )
        return self

    def classify(self, percentage: npt.ArrayLike) -> Integers:
        """Class numbers from 0 of cloud covers in percent, any shape.

        Raises:
            InvalidRecipe: If a percentage is not a number between 0 and 100.
        """
        values = np.asarray(percentage, np.float64)
        # Shares of pixels times 100 may miss 100 by a rounding error.
        if not ((values >= -1e-9) & (values <= 100 + 1e-9)).all():
            raise InvalidRecipe("a cloud cover must be 0 to 100 percent; one of an unlabelled patch has none.")
        return np.searchsorted(np.asarray(self.boundaries), values, side="right").astype(np.int64)

    def describe(self) -> list[str]:
        """Each class with its range, such as ``broken (50-75 %)``."""
        edges = (0.0, *self.boundaries, 100.0)
        return [f"{name} ({edges[i]:g}-{edges[i + 1]:g} %)" for i, name in enumerate(self.names)]


CLASSES = CoverageClasses()  # the classes unless others are named


def cloud_percentage(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Thick and thin cloud of masks (…, H, W) as a percentage (…) of the labelled pixels; NaN where nothing is."""
    labelled = (masks != UNLABELLED).sum(axis=(-2, -1))
    cloud = np.isin(masks, (THICK_CLOUD, THIN_CLOUD)).sum(axis=(-2, -1))
    shares: npt.NDArray[np.float64] = np.where(labelled > 0, 100.0 * cloud / np.maximum(labelled, 1), np.nan)
    return shares


@dataclass(frozen=True)
class Windows:
    """Square or whole-patch windows of a store, each with its coverage class."""

    rows: Integers  # (K,) row of the patch in the store
    boxes: Integers  # (K, 4) top, left, height and width in the patch
    percentages: npt.NDArray[np.float64]  # (K,) cloud cover of the window itself
    labels: Integers  # (K,) class of that cover
    refused: int = 0  # windows left out because too few of their pixels are labelled or valid

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, chosen: Integers) -> "Windows":
        """The windows at some positions, in that order."""
        arrays = (self.rows[chosen], self.boxes[chosen], self.percentages[chosen], self.labels[chosen])
        return Windows(*arrays, refused=self.refused)

    def place(self, position: int) -> tuple[slice, slice]:
        """Rows and columns of a window in its patch."""
        top, left, height, width = self.boxes[position]
        return slice(top, top + height), slice(left, left + width)

    def read(self, store: PatchStore, position: int, role: str) -> npt.NDArray[Any]:
        """A window of an array of the store, ``images`` (C, height, width) or ``masks`` (height, width); a view."""
        window: npt.NDArray[Any] = store.array(role)[self.rows[position], ..., *self.place(position)]
        return window

    def class_counts(self, classes: int) -> Integers:
        """(classes,) number of windows of each class."""
        return np.bincount(self.labels, minlength=classes)


def label_windows(
    store: PatchStore,
    indices: Integers,
    classes: CoverageClasses,
    *,
    count: int,
    scale: tuple[float, float] = (0.5, 1.0),
    minimum_valid: float = 0.2,
    seed: int = 0,
) -> Windows:
    """Labels the patches of a split by coverage: whole patches first, then random windows, classes evened out.

    There are at least ``count`` windows; with as many patches or more, every patch is one window and nothing is cut.
    ``scale`` is the smallest and largest edge of a random window, as a share of the patch's. Windows with a smaller
    share of labelled pixels than ``minimum_valid`` are refused.

    Raises:
        NoUsablePatches: If the split holds no patch with enough labelled pixels.
    """
    height, width = store.masks.shape[1:]
    rng = np.random.default_rng(seed)
    per_patch = 0 if len(indices) >= count else -(-count // max(len(indices), 1)) * _CANDIDATES
    parts = [np.zeros((0, 8))]
    for row in indices:
        mask = store.masks[row]
        boxes = np.concatenate([[[0, 0, height, width]], _boxes(rng, per_patch, height, width, scale)])
        labelled = _sums(mask != UNLABELLED, boxes)
        percentages = 100.0 * _sums(np.isin(mask, (THICK_CLOUD, THIN_CLOUD)), boxes) / np.maximum(labelled, 1)
        shares = labelled / (boxes[:, 2] * boxes[:, 3])
        is_whole = np.arange(len(boxes)) == 0
        parts.append(np.column_stack([np.full(len(boxes), row), boxes, percentages, shares, is_whole]))
    drawn = np.concatenate(parts)
    usable = drawn[:, 6] >= max(minimum_valid, 1e-9)
    refused = int((~usable[drawn[:, 7] == 1]).sum())
    drawn = drawn[usable]
    if not len(drawn):
        raise NoUsablePatches(
            f"none of the {len(indices)} patches of this split has {minimum_valid:.0%} labelled pixels: "
            "look at the splits, the label types, and the masks."
        )
    places = drawn[:, :5].astype(np.int64)
    windows = Windows(places[:, 0], places[:, 1:], drawn[:, 5], classes.classify(drawn[:, 5]), refused)
    whole = np.flatnonzero(drawn[:, 7] == 1)
    random = _evened_out(windows.labels, windows.rows, rng.permutation(np.flatnonzero(drawn[:, 7] == 0)))
    return windows.subset(np.concatenate([whole, np.sort(random[: max(count - len(whole), 0)])]))


def _boxes(rng: np.random.Generator, count: int, height: int, width: int, scale: tuple[float, float]) -> Integers:
    """(count, 4) random squares: top, left, height, width."""
    sides = np.clip(np.rint(rng.uniform(*scale, count) * min(height, width)), 1, min(height, width)).astype(np.int64)
    tops, lefts = rng.integers(0, height - sides + 1), rng.integers(0, width - sides + 1)
    return np.column_stack([tops, lefts, sides, sides])


def _sums(part: npt.NDArray[np.bool_], boxes: Integers) -> Integers:
    """(K,) how many pixels of (H, W) in each of the boxes (K, 4) are True, by a summed-area table."""
    table = np.pad(part.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    top, left, height, width = boxes.T
    bottom, right = top + height, left + width
    total: Integers = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    return total


def _evened_out(labels: Integers, rows: Integers, positions: Integers) -> Integers:
    """Positions of windows in such an order that any first ones are even by class, and within a class by patch."""
    import pandas as pd

    # A window's turn: how many of the same class and patch, and then of the same class, come before it.
    table = pd.DataFrame({"label": labels[positions], "row": rows[positions], "position": positions})
    for keys in (["label", "row"], ["label"]):
        table = table.iloc[table.groupby(keys).cumcount().to_numpy().argsort(kind="stable")]
    return table["position"].to_numpy(dtype=np.int64)


def percentage_mismatches(
    catalog: SceneCatalog, store: PatchStore, tolerance: float = 1.0
) -> Iterator[tuple[str, float, float]]:
    """Compares the coverage of the masks with the percentages that the data set itself states.

    Only patches that hold a whole scene can be compared, of scenes whose attributes hold ``thick_percentage`` and
    ``thin_percentage``, but for scribbles: the percentages count every pixel, and scribbles label some.

    Yields:
        (scene, coverage of the mask, coverage as stated) that differ by more than so many percentage points.
    """
    parts = ("thick_percentage", "thin_percentage")
    stated = {
        scene.scene_id: scene
        for scene in catalog
        if set(parts) <= scene.attributes.keys() and scene.label_type in (None, "high")
    }
    index = store.index
    alone = index[~index["scene_id"].duplicated(keep=False) & index["scene_id"].isin(stated)]
    sides = next(iter(store.roles.values())).shape[1:]
    # Pixels without data count as pixels without cloud there.
    for name, measured in zip(alone["scene_id"], alone["cloud_percentage"] * alone["valid_fraction"], strict=True):
        expected = sum(float(stated[name].attributes[part]) for part in parts)
        if not abs(measured - expected) <= tolerance:
            grid = stated[name].grid()
            if grid.height <= sides[0] and grid.width <= sides[1]:
                yield str(name), float(measured), expected
