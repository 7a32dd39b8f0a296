"""Curves: learning, precision against recall, reliability, cloud cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.reports.confusion_counts import histogram_samples
from cloud_assets.reports.formatting import readable
from cloud_assets.reports.style import BASELINE_COLOUR, SERIES_COLOURS, figure_style, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (8.6, 4.3)
_RELIABILITY_BINS = 20


def learning_curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> bytes | None:
    """Losses and validation metrics by epoch.

    Returns:
        A PNG image; None without a history.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(name for row in history for name in row))
    losses = [name for name in names if "loss" in name]
    metrics = [name for name in names if name not in losses and _is_share(name, history)]
    if not losses and not metrics:
        return None
    shown = {title: series for title, series in (("loss", losses), ("metric", metrics)) if series}
    epochs = np.arange(1, len(history) + 1)
    with figure_style():
        figure = Figure(figsize=(_SIZE[0], 3.9))
        for axes, (title, series) in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown.items(), strict=True):
            for name in series:
                values = [row.get(name, np.nan) for row in history]
                axes.plot(epochs, values, marker="o", markersize=3, label=readable(name))
            axes.axvline(best_epoch + 1, color="#2b2b2b", linestyle="--", linewidth=1.1, label="weights kept")
            axes.set_xlabel("epoch")
            axes.set_ylabel(title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        return png(figure)


def precision_recall_figure(
    histogram: npt.NDArray[np.int64], chosen: tuple[float, float, str], baselines: Mapping[str, tuple[float, float]]
) -> bytes | None:
    """Precision against recall over all thresholds.

    Args:
        histogram: (2, bins) pixels by truth (clear, cloud) and bin of the cloud probability.
        chosen: Recall, precision and description of the model's own decision.
        baselines: Recall and precision of trivial rules, by name.

    Returns:
        A PNG image; None unless both classes occur.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import average_precision_score, precision_recall_curve

    if not histogram.sum(axis=1).all():
        return None
    truth, score, pixels = histogram_samples(histogram)
    precision, recall, _ = precision_recall_curve(truth, score, sample_weight=pixels)
    average = average_precision_score(truth, score, sample_weight=pixels)
    with figure_style():
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        axes.plot(recall, precision, label=f"model, average precision {average:.3f}")
        axes.plot(*chosen[:2], "o", color=SERIES_COLOURS[1], markersize=9, label=chosen[2])
        for marker, (name, point) in zip("sD^v", baselines.items(), strict=False):
            axes.plot(*point, marker, color=BASELINE_COLOUR, markersize=8, label=name)
        _unit_square(
            axes, "recall (share of the cloud that is found)", "precision (share of what is found that is cloud)"
        )
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return png(figure)


def reliability_figure(histogram: npt.NDArray[np.int64]) -> bytes | None:
    """How often pixels of a stated cloud probability are cloud, and how common such pixels are.

    Args:
        histogram: (2, bins) pixels by truth (clear, cloud) and bin of the cloud probability.

    Returns:
        A PNG image; None without pixels.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    coarse = histogram.reshape(2, _RELIABILITY_BINS, -1).sum(axis=2)
    total = coarse.sum(axis=0)
    if not total.sum():
        return None
    centres = (np.arange(_RELIABILITY_BINS) + 0.5) / _RELIABILITY_BINS
    seen = total > 0
    with figure_style():
        figure = Figure(figsize=(_SIZE[0], 3.9))
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=BASELINE_COLOUR, linestyle="--", linewidth=1.3, label="perfectly calibrated")
        left.plot(centres[seen], coarse[1][seen] / total[seen], marker="o", markersize=4, label="model")
        _unit_square(left, "predicted cloud probability", "share of these pixels that is cloud")
        left.legend(loc="upper left")
        right.bar(centres, total / total.sum(), width=0.9 / _RELIABILITY_BINS, color=SERIES_COLOURS[0])
        right.set_xlabel("predicted cloud probability")
        right.set_ylabel("share of all pixels")
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.grid(visible=False, axis="x")
        return png(figure)


def cloud_cover_figure(truth: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64]) -> bytes:
    """Cloud cover of the patches, predicted against true.

    Args:
        truth: (N,) percent.
        predicted: (N,) percent.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        axes.plot([0, 100], [0, 100], color=BASELINE_COLOUR, linestyle="--", linewidth=1.3, label="equal")
        error = predicted - truth
        label = f"test patch\nmean error {error.mean():+.1f} points\nmean absolute error {abs(error).mean():.1f} points"
        axes.scatter(truth, predicted, s=22, alpha=0.6, edgecolors="none", label=label)
        axes.set_aspect("equal")
        axes.set_xlim(-2, 102)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("true cloud cover (%)")
        axes.set_ylabel("predicted cloud cover (%)")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return png(figure)


def _unit_square(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _is_share(name: str, history: Sequence[Mapping[str, float]]) -> bool:
    """Whether a series is a metric in [0, 1] rather than a learning rate, a duration or a count."""
    if any(word in name for word in ("rate", "lr", "epoch", "step", "second", "time")):
        return False
    return all(0 <= row[name] <= 1 for row in history if name in row and np.isfinite(row[name]))
