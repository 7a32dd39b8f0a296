"""Pictures of an ablation: bars a row, the learning curve, and patches that an ingredient mended or spoilt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.families.segmentation.figures import outcome_map
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.composites import TRUE_COLOUR, composite
from cloud_assets.reports.style import BASELINE_COLOUR, OUTCOME_COLOURS, SERIES_COLOURS, figure_style, png

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.families.segmentation.mask_rules import MaskRule
    from cloud_assets.patches.store import PatchStore

CAPTIONS: Mapping[str, str] = {
    "iou": "Cloud IoU of each row; bars are means over the seeds, whiskers one standard deviation either way.",
    "curve": "Trained on simulated patches alone; same number of steps at each point.",
    "changes": "For each ingredient the patches of validation and test split that it mended and spoilt most, against "
    "the row above (first seed). They are the extremes, chosen for being so.",
    "on_the_test_split": "Mean ± standard deviation over the seeds; each row adds one ingredient to the one above.",
    "on_hardened_validation": "The same on the validation split with simulated patches beside it.",
    "on_the_validation_split": "The same on the validation split alone.",
    "learning_curve": "By number of simulated patches, on all patches of the data set, none of which was used.",
    "trainings": "One line a training; 'all' holds the training patches too, which only the learning curve never saw.",
}
_SHOWN_SETS = ("hardened", "test")
_PANEL_INCHES = 1.75
_TITLE_CHARACTERS = 26


def iou_bars(trainings: pd.DataFrame) -> bytes:
    """Bars of the IoU of each row on the hardened validation and on the test split.

    Args:
        trainings: The table of all trainings and peers.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    rows = trainings[trainings["kind"] != "curve"]
    names = list(dict.fromkeys(rows["row"]))
    with figure_style():
        figure = Figure(figsize=(8.8, 1.4 + 0.55 * len(names)))
        axes = figure.add_subplot()
        for position, (name, colour) in enumerate(zip(_SHOWN_SETS, SERIES_COLOURS, strict=False)):
            groups = [rows.loc[rows["row"] == row, f"{name}_iou"].dropna() for row in names]
            places = np.arange(len(names)) + (position - 0.5) * 0.38
            means = [float(group.mean()) for group in groups]
            spreads = [float(group.std()) if len(group) > 1 else 0.0 for group in groups]
            bars = axes.barh(
                places, means, 0.36, xerr=spreads, color=colour, label=f"{name} IoU", ecolor=BASELINE_COLOUR
            )
            axes.bar_label(bars, [f"{mean:.3f}" for mean in means], label_type="center", color="white", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=2)
        return png(figure)


def curve_figure(curve: pd.DataFrame, peers: Mapping[str, float]) -> bytes:
    """IoU over the number of simulated patches.

    Args:
        curve: The table ``curve``.
        peers: IoU of other rules on all patches, by name.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(7.2, 4.2))
        axes = figure.add_subplot()
        counts = curve["patches"].to_numpy(dtype=np.float64)
        for name, colour in zip(("all", "hardened"), SERIES_COLOURS, strict=False):
            if f"{name}_iou" in curve:
                spread = curve[f"{name}_iou_spread"].fillna(0)
                label = "all real patches" if name == "all" else "simulated and validation patches"
                axes.errorbar(counts, curve[f"{name}_iou"], spread, color=colour, marker="o", capsize=3, label=label)
        for name, value in peers.items():
            axes.axhline(value, color=BASELINE_COLOUR, linestyle="--", linewidth=1.2)
            axes.annotate(
                f"{name}, all real patches", (counts.min(), value), (0, 3), textcoords="offset points", fontsize=9
            )
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:g}" for count in counts], minor=False)
        axes.minorticks_off()
        axes.set_xlabel("simulated patches")
        axes.set_ylabel("cloud IoU")
        axes.legend()
        return png(figure)


@dataclass(frozen=True)
class Change:
    """What an ingredient did to one patch."""

    ingredient: str
    """Name of the row."""
    index: int
    """Row of the store."""
    before: npt.NDArray[np.uint8]
    """(H, W) mask of the row above."""
    after: npt.NDArray[np.uint8]
    """(H, W) mask with the ingredient."""
    wrong_before: float
    """Percentage of wrong pixels of the row above."""
    wrong_after: float
    """The same with the ingredient."""


def greatest_changes(rules: Mapping[str, MaskRule], store: PatchStore, indices: npt.NDArray[np.int64]) -> list[Change]:
    """Finds for each row the patch that it mended most against the row above, and the one that it spoilt most.

    Args:
        rules: One model a row, by the name of the row, in their order.
        store: The patches.
        indices: Rows of the store to look through.

    Returns:
        The changes in the order of the rows; none where nothing got better or worse.
    """
    changes: list[Change] = []
    previous: list[npt.NDArray[np.uint8]] | None = None
    for name, rule in rules.items():
        masks = [rule.mask(store.array(IMAGES)[[index]])[0] for index in indices]
        if previous is not None:
            wrong = [
                (_wrong(store.masks[index], old), _wrong(store.masks[index], new))
                for index, old, new in zip(indices, previous, masks, strict=True)
            ]
            gains = np.array([old - new for old, new in wrong])
            for place in dict.fromkeys((int(gains.argmax()), int(gains.argmin()))):
                if gains[place]:
                    changes.append(Change(name, int(indices[place]), previous[place], masks[place], *wrong[place]))
        previous = masks
    return changes


def change_panels(changes: Sequence[Change], store: PatchStore) -> bytes | None:
    """Draws the changes: picture, errors before, errors after, side by side, two changes a line.

    Args:
        changes: What to draw.
        store: The patches.

    Returns:
        A PNG image; None without changes.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if not changes:
        return None
    lines = -(-len(changes) // 2)
    with figure_style():
        figure = Figure(figsize=(6 * _PANEL_INCHES, lines * (_PANEL_INCHES + 0.75) + 0.4))
        grid: Any = figure.subplots(lines, 6, squeeze=False)
        for axes in grid.ravel():
            axes.set_axis_off()
        for position, change in enumerate(changes):
            line = grid[position // 2, 3 * (position % 2) : 3 * (position % 2) + 3]
            truth = store.masks[change.index]
            picture = composite(store.array(IMAGES)[change.index], store.roles[IMAGES], TRUE_COLOUR)
            shown = [np.zeros((*truth.shape, 3)) if picture is None else picture]
            shown += [outcome_map(truth, change.before), outcome_map(truth, change.after)]
            titles = [
                fill(f"+ {change.ingredient}", _TITLE_CHARACTERS),
                f"before: {change.wrong_before:.1f} % wrong",
                f"after: {change.wrong_after:.1f} %",
            ]
            for axes, image, title in zip(line, shown, titles, strict=True):
                axes.imshow(image)
                axes.set_title(title, fontsize=8, loc="left")
        handles = [Patch(facecolor=colour, edgecolor="#9aa3ad", label=name) for name, colour in OUTCOME_COLOURS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
        return png(figure)


def _wrong(truth: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> float:
    scored = (truth != UNLABELLED) & (mask != UNLABELLED)
    cloud = (THICK_CLOUD, THIN_CLOUD)
    wrong = np.isin(truth, cloud) != np.isin(mask, cloud)
    return 100 * float((wrong & scored).sum()) / max(int(scored.sum()), 1)
