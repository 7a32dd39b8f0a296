"""Figures of cloud masks beside their truth, and of confusion between classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, CLEAR, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.reports.composites import Picture
from cloud_assets.reports.style import CLASS_COLOURS, OUTCOME_COLOURS, figure_style, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.patches import Patch

_WIDTH = 10.4
_PROBABILITY_COLOURS = "cividis"


@dataclass(frozen=True)
class Example:
    """A patch with what the model made of it."""

    title: str
    """One line: which scene, how good."""
    pictures: Mapping[str, Picture]
    """Colour pictures (H, W, 3) by their heading."""
    truth: npt.NDArray[np.uint8]
    """(H, W) cloud codes, 255 unlabelled."""
    mask: npt.NDArray[np.uint8]
    """(H, W) predicted cloud codes, 255 nodata."""
    cloud_probability: npt.NDArray[np.float32]
    """(H, W) in [0, 1]."""


def class_names(has_kinds: bool, true_codes: Sequence[int] = ()) -> dict[int, str]:
    """Names of the cloud codes as figures show them.

    Args:
        has_kinds: Whether thick cloud, thin cloud and shadow are distinguished.
        true_codes: Codes that the truth holds; kinds in it are named even if the model knows none.

    Returns:
        Names by code: clear and cloud, or all four.
    """
    if has_kinds or set(true_codes) - {CLEAR, THICK_CLOUD, UNLABELLED}:
        return dict(CLASS_NAMES)
    return {CLEAR: "clear", THICK_CLOUD: "cloud"}


def patch_panels(examples: Sequence[Example], names: Mapping[int, str]) -> bytes:
    """One row a patch: pictures, truth, prediction, errors, cloud probability.

    Args:
        examples: The patches, at least one.
        names: Class names of the cloud codes in truth and prediction.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    columns = len(examples[0].pictures) + 4
    side = _WIDTH / columns
    with figure_style():
        figure = Figure(figsize=(_WIDTH, (side + 0.62) * len(examples) + 0.75))
        heights = [side + 0.62] * len(examples) + [0.75]
        rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
        for row, example in zip(rows[:-1], examples, strict=True):
            _panel_row(row, example, columns)
        _legends(rows[-1], examples, names)
        return png(figure)


def _panel_row(row: SubFigure, example: Example, columns: int) -> None:
    row.suptitle(example.title, x=0.008, ha="left", fontsize=10.5, fontweight="bold")
    shown: dict[str, npt.NDArray[Any]] = {
        **example.pictures,
        "truth": _painted(example.truth, {**CLASS_NAMES, UNLABELLED: "unlabelled"}, CLASS_COLOURS),
        "prediction": _painted(example.mask, {**CLASS_NAMES, UNLABELLED: "unlabelled"}, CLASS_COLOURS),
        "errors": outcome_map(example.truth, example.mask),
        "cloud probability": np.where(example.mask == UNLABELLED, np.nan, example.cloud_probability),
    }
    for axes, (heading, picture) in zip(row.subplots(1, columns), shown.items(), strict=True):
        _framed(axes)
        axes.set_title(heading, fontsize=10)
        axes.imshow(picture, cmap=_PROBABILITY_COLOURS, vmin=0, vmax=1)


def outcome_map(truth: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Where cloud was found, falsely found and missed.

    Args:
        truth: (H, W) cloud codes, 255 unlabelled.
        mask: (H, W) predicted cloud codes, 255 nodata.

    Returns:
        (H, W, 3) colours of :data:`OUTCOME_COLOURS`.
    """
    is_cloud, found = np.isin(truth, (THICK_CLOUD, THIN_CLOUD)), np.isin(mask, (THICK_CLOUD, THIN_CLOUD))
    outcome = np.where(is_cloud, np.where(found, 0, 3), np.where(found, 2, 1))
    outcome = np.where((truth == UNLABELLED) | (mask == UNLABELLED), 4, outcome)
    return _painted(outcome.astype(np.uint8), dict(enumerate(OUTCOME_COLOURS)), OUTCOME_COLOURS)


def _painted(
    codes: npt.NDArray[np.uint8], names: Mapping[int, str], colours: Mapping[str, str]
) -> npt.NDArray[np.float32]:
    from matplotlib.colors import to_rgb

    palette = np.ones((256, 3), np.float32)
    for code, name in names.items():
        palette[code] = to_rgb(colours[name])
    return palette[codes]


def _framed(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#9aa3ad")
        spine.set_linewidth(0.8)


def _legends(row: SubFigure, examples: Sequence[Example], names: Mapping[int, str]) -> None:
    from matplotlib.cm import ScalarMappable

    shown = {int(code) for example in examples for code in (*np.unique(example.truth), *np.unique(example.mask))}
    classes = {name: CLASS_COLOURS[name] for code, name in names.items() if code in shown}
    if UNLABELLED in shown:
        classes["unlabelled"] = CLASS_COLOURS["unlabelled"]
    outcomes = {name: colour for name, colour in OUTCOME_COLOURS.items() if name != "not scored" or UNLABELLED in shown}
    for position, (title, colours) in enumerate({"classes": classes, "errors": outcomes}.items()):
        legend = row.legend(
            handles=_swatches(colours),
            title=title,
            ncols=3,
            loc="upper left",
            bbox_to_anchor=(0.4 * position, 1.0),
            alignment="left",
            fontsize=9,
        )
        legend.get_title().set_fontweight("bold")
    axes = row.add_axes((0.83, 0.42, 0.15, 0.16))
    bar = row.colorbar(ScalarMappable(cmap=_PROBABILITY_COLOURS), cax=axes, orientation="horizontal")
    bar.set_ticks([0, 0.5, 1])
    bar.ax.tick_params(labelsize=9)
    axes.set_title("cloud probability", fontsize=9, fontweight="bold", loc="left")


def _swatches(colours: Mapping[str, str]) -> list[Patch]:
    from matplotlib.patches import Patch

    return [Patch(facecolor=colour, edgecolor="#9aa3ad", label=name) for name, colour in colours.items()]
