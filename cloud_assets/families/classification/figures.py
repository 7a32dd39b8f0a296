"""Figures of coverage classes: confusion, confidence, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_assets.families.classification.metrics import Answers, one_hot
from cloud_assets.reports.composites import Picture
from cloud_assets.reports.style import BASELINE_COLOUR, SERIES_COLOURS, figure_style, png

_SIZE = (8.6, 4.3)
_COLUMNS = 4


@dataclass(frozen=True)
class Mistake:
    """A window that the model is wrong about."""

    picture: Picture
    """(H, W, 3) in [0, 1]."""
    title: str
    """Where it is from."""
    percentage: float
    """Its true cloud cover."""
    truth: str
    predicted: str
    confidence: float
    """Probability that the model gives its answer."""


def roc_figure(answers: Answers, names: Sequence[str]) -> bytes | None:
    """ROC curve of each class against the rest, and of all pooled.

    Returns:
        A PNG image; None if the truth holds only one class.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import auc, roc_curve

    each = one_hot(answers.truth, len(names))
    if answers.probability is None or len(np.unique(answers.truth)) < 2:
        return None
    grid = np.linspace(0, 1, 201)
    with figure_style():
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        rises = []
        for number, name in enumerate(names):
            if not 0 < each[:, number].sum() < len(each):
                continue
            wrong, right, _ = roc_curve(each[:, number], answers.probability[:, number])
            rises.append(np.interp(grid, wrong, right))
            axes.plot(wrong, right, label=f"{name}, area {auc(wrong, right):.3f}", linewidth=1.5)
        wrong, right, _ = roc_curve(each.ravel(), answers.probability.ravel())
        axes.plot(wrong, right, color="#2b2b2b", linestyle=":", label=f"micro average, area {auc(wrong, right):.3f}")
        mean = np.mean(rises, axis=0)
        mean[0] = 0.0
        axes.plot(grid, mean, color="#2b2b2b", label=f"macro average, area {auc(grid, mean):.3f}")
        axes.plot([0, 1], [0, 1], color=BASELINE_COLOUR, linestyle="--", linewidth=1.3, label="guessing")
        axes.set_aspect("equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return png(figure)


def confidence_figure(answers: Answers, bins: int) -> bytes | None:
    """Reliability diagram: how often answers of a stated confidence are right, and how common they are.

    Returns:
        A PNG image; None without probabilities.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter
    from sklearn.calibration import calibration_curve

    if answers.probability is None:
        return None
    confidence = answers.probability.max(axis=1).clip(0, 1)
    is_right = answers.probability.argmax(axis=1) == answers.truth
    share_right, mean_confidence = calibration_curve(is_right, confidence, n_bins=bins)
    with figure_style():
        figure = Figure(figsize=(_SIZE[0], 3.9))
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=BASELINE_COLOUR, linestyle="--", linewidth=1.3, label="perfectly calibrated")
        left.plot(mean_confidence, share_right, marker="o", markersize=5, label="model")
        left.set_xlim(-0.02, 1.02)
        left.set_ylim(-0.02, 1.02)
        left.set_xlabel("confidence in the likeliest class")
        left.set_ylabel("share of these answers that is right")
        left.legend(loc="upper left")
        right.hist(confidence, bins=np.linspace(0, 1, bins + 1), weights=np.full(len(answers), 1 / len(answers)))
        right.set_xlabel("confidence in the likeliest class")
        right.set_ylabel("share of all answers")
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.grid(visible=False, axis="x")
        return png(figure)


def cover_figure(
    percentages: npt.NDArray[np.float64], answers: Answers, names: Sequence[str], boundaries: Sequence[float]
) -> bytes:
    """True cloud cover of the samples, by the class that they were given; mistakes lie outside their class's band.

    Args:
        percentages: (N,) true cloud cover.
        answers: The N answers.
        names: K names of the classes.
        boundaries: K - 1 percentages between them.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    edges = (0.0, *boundaries, 100.0)
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(answers))
    is_right = answers.truth == answers.predicted
    with figure_style():
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        for number in range(len(names)):
            axes.fill_between(
                [number - 0.42, number + 0.42], edges[number], edges[number + 1], color="#eef1f5", zorder=0
            )
        for chosen, colour, label in ((is_right, SERIES_COLOURS[0], "right"), (~is_right, SERIES_COLOURS[1], "wrong")):
            places = answers.predicted[chosen] + spread[chosen]
            axes.scatter(places, percentages[chosen], s=14, alpha=0.65, color=colour, edgecolors="none", label=label)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_ylim(-2, 102)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("predicted class (grey: where its samples should lie)")
        axes.set_ylabel("true cloud cover (%)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return png(figure)


def mistakes_figure(mistakes: Sequence[Mistake]) -> bytes | None:
    """Pictures of the most confident mistakes.

    Args:
        mistakes: Most confident first.

    Returns:
        A PNG image; None without mistakes.
    """
    from matplotlib.figure import Figure

    if not mistakes:
        return None
    lines = -(-len(mistakes) // _COLUMNS)
    with figure_style():
        figure = Figure(figsize=(10.4, 3.3 * lines))
        for axes in (grid := figure.subplots(lines, _COLUMNS, squeeze=False).ravel()):
            axes.set_axis_off()
        for axes, mistake in zip(grid, mistakes, strict=False):
            axes.imshow(mistake.picture, vmin=0, vmax=1)
            cover = f"true: {mistake.truth}, {mistake.percentage:.0f} % cloud"
            axes.set_title(
                f"{mistake.title}\n{cover}\nsaid: {mistake.predicted}, {mistake.confidence:.0%} sure", fontsize=8.5
            )
        return png(figure)
