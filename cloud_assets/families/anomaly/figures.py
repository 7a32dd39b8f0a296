"""Figures of anomaly scores: distributions by class, score maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_assets.families.anomaly.metrics import LabelledScores
from cloud_assets.reports.figures import BASELINE_COLOUR, SERIES_COLOURS, Picture, figure_style, png

_SIZE = (8.6, 4.3)
_BINS = 24
_MAP_COLOURS = "magma"


@dataclass(frozen=True)
class Panel:
    """One picture with what the model made of it."""

    title: str
    picture: Picture
    """(H, W, 3) in [0, 1]."""
    reconstruction: Picture | None
    """The same of the network's reconstruction; None for models that make none."""
    error_map: npt.NDArray[np.float32]
    """(H, W), NaN without data."""


def score_histogram(labelled: LabelledScores, threshold: float, unit: str) -> bytes:
    """Scores of both classes with the threshold.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    edges = np.histogram_bin_edges(labelled.score, _BINS)
    with figure_style():
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        for scores, colour, name in (
            (labelled.normal, SERIES_COLOURS[2], "normal"),
            (labelled.anomalous, SERIES_COLOURS[0], "anomalous"),
        ):
            axes.hist(scores, bins=edges.tolist(), color=colour, alpha=0.6, label=f"{name}, {len(scores)} pictures")
        axes.axvline(threshold, color=SERIES_COLOURS[1], linestyle="--", label=f"threshold {threshold:.3g}")
        axes.set_xlabel(f"score ({unit})")
        axes.set_ylabel("test pictures")
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower center", ncols=3)
        return png(figure)


def roc_figure(labelled: LabelledScores, threshold: float, baselines: Mapping[str, LabelledScores]) -> bytes:
    """ROC curve of the model and of the trivial rules.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_auc_score, roc_curve

    with figure_style():
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        for (name, rule), style in zip(baselines.items(), ("-", "--", ":"), strict=False):
            wrong, right, _ = roc_curve(rule.is_anomalous, rule.score)
            area = roc_auc_score(rule.is_anomalous, rule.score)
            axes.plot(wrong, right, style, color=BASELINE_COLOUR, linewidth=1.5, label=f"{name}, area {area:.3f}")
        wrong, right, _ = roc_curve(labelled.is_anomalous, labelled.score)
        area = roc_auc_score(labelled.is_anomalous, labelled.score)
        axes.plot(wrong, right, color=SERIES_COLOURS[0], label=f"model, area {area:.3f}")
        point = (labelled.normal >= threshold).mean(), (labelled.anomalous >= threshold).mean()
        axes.plot(*point, "o", color=SERIES_COLOURS[1], markersize=9, label="the model's threshold")
        axes.set_aspect("equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("share of the normals called anomalous")
        axes.set_ylabel("share of the anomalies found")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return png(figure)


def panels_figure(panels: Sequence[Panel]) -> bytes | None:
    """One column a picture: original, reconstruction if there is one, error map; all maps share one scale.

    Returns:
        A PNG image; None without any.
    """
    from matplotlib.figure import Figure

    if not panels:
        return None
    has_reconstruction = panels[0].reconstruction is not None
    names = ["original", "reconstruction", "error map"] if has_reconstruction else ["original", "error map"]
    highest = max(float(np.nanpercentile(panel.error_map, 99.5)) for panel in panels)
    with figure_style():
        figure = Figure(figsize=(1.75 * len(panels) + 0.9, 1.9 * len(names) + 0.6))
        grid = figure.subplots(len(names), len(panels), squeeze=False)
        for column, panel in enumerate(panels):
            shown = [panel.picture, panel.reconstruction] if has_reconstruction else [panel.picture]
            for axes, picture in zip(grid[:, column], shown, strict=False):
                axes.imshow(picture, vmin=0, vmax=1)
            drawn = grid[-1, column].imshow(panel.error_map, cmap=_MAP_COLOURS, vmin=0, vmax=max(highest, 1e-6))
            grid[0, column].set_title(panel.title, fontsize=8)
        for axes in grid.ravel():
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name)
        figure.colorbar(drawn, ax=grid[-1].tolist(), shrink=0.9)
        return png(figure)
