"""Figures of coverage classes: confusion, confidence, mistakes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, roc_curve

from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows
from cloud_assets.families.classification.metrics import Answers, confusion_counts
from cloud_assets.families.classification.recipe import ClassificationEvaluation
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.figures import (
    BASELINE_COLOUR,
    CURVE_SIZE,
    SERIES_COLOURS,
    STRETCH_NOTE,
    TRUE_COLOUR,
    UNIT,
    WIDTH,
    calibration_figure,
    composite,
    confusion_figure,
    drawing,
    png,
)
from cloud_assets.reports.report import read_captions

CAPTIONS = read_captions(__package__, stretch=STRETCH_NOTE)
_COLUMNS = 4


def classification_figures(
    recipe: ClassificationEvaluation,
    store: PatchStore,
    windows: Windows,
    answers: Answers,
    samples: pd.DataFrame,
    classes: CoverageClasses,
) -> dict[str, bytes | None]:
    """PNG images by name; None for those that the data do not allow."""
    names = classes.names
    # Windows of one patch resemble each other: two of them tell enough.
    wrong = samples[samples["class_error"] > 0].groupby("patch_id", sort=False).head(2).head(recipe.mistakes)
    return {
        "confusion_matrix": confusion_figure(confusion_counts(answers, len(names)), names, names, unit="samples"),
        "cloud_cover": _cover_figure(windows.percentages, answers, classes),
        "mistakes": _mistakes_figure(store, windows, wrong),
        "roc": _roc_figure(answers, names),
        "confidence": _confidence_figure(answers, recipe.calibration_bins),
    }


def _roc_figure(answers: Answers, names: Sequence[str]) -> bytes | None:
    """ROC curve of each class against the rest, and of all pooled; None if the truth holds only one class."""
    each = answers.truth[:, None] == np.arange(len(names))
    if len(np.unique(answers.truth)) < 2:
        return None
    grid = np.linspace(0, 1, 201)
    with drawing(*CURVE_SIZE) as (figure, axes):
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
        axes.set(aspect="equal", xlim=UNIT, ylim=UNIT, xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return png(figure)


def _confidence_figure(answers: Answers, bins: int) -> bytes:
    """Reliability diagram: how often answers of a stated confidence are right, and how common they are."""
    confidence = answers.probability.max(axis=1).clip(0, 1)
    is_right = answers.probability.argmax(axis=1) == answers.truth
    share_right, mean_confidence = calibration_curve(is_right, confidence, n_bins=bins)
    counts = np.histogram(confidence, bins, (0, 1))[0]
    curve, share = (mean_confidence, share_right), "share of these answers that is right"
    return calibration_figure("confidence in the likeliest class", curve, share, counts, "answers")


def _cover_figure(percentages: npt.NDArray[np.float64], answers: Answers, classes: CoverageClasses) -> bytes:
    """True cloud cover (N,) by the class that a sample was given; mistakes lie outside their class's band."""
    edges = (0.0, *classes.boundaries, 100.0)
    count = len(classes.names)
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(answers))
    is_right = answers.truth == answers.predicted
    with drawing(*CURVE_SIZE) as (figure, axes):
        for number in range(count):
            places = [number - 0.42, number + 0.42]
            axes.fill_between(places, edges[number], edges[number + 1], color="#eef1f5", zorder=0)
        for chosen, colour, label in ((is_right, SERIES_COLOURS[0], "right"), (~is_right, SERIES_COLOURS[1], "wrong")):
            places = answers.predicted[chosen] + spread[chosen]
            axes.scatter(places, percentages[chosen], s=14, alpha=0.65, color=colour, edgecolors="none", label=label)
        axes.set_xticks(range(count), classes.names)
        axes.set(xlim=(-0.6, count - 0.4), ylim=(-2, 102), ylabel="true cloud cover (%)")
        axes.set_xlabel("predicted class (grey: where its samples should lie)")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return png(figure)


def _mistakes_figure(store: PatchStore, windows: Windows, wrong: pd.DataFrame) -> bytes | None:
    """Pictures of mistakes, rows of the samples' table; None without any, and where the bands make no picture."""
    role = store.roles[IMAGES]
    pictures = [composite(windows.read(store, sample, IMAGES), role, TRUE_COLOUR) for sample in wrong["sample"]]
    if not pictures or pictures[0] is None:
        return None
    lines = -(-len(pictures) // _COLUMNS)
    with drawing(WIDTH, 3.3 * lines, lines, _COLUMNS) as (figure, grid):
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, picture, row in zip(grid.flat, pictures, wrong.to_dict("records"), strict=False):
            axes.imshow(picture, vmin=0, vmax=1)
            axes.set_title(
                f"{row['patch_id']}\ntrue: {row['true_class']}, {row['cloud_percentage']:.0f} % cloud\n"
                f"said: {row['predicted_class']}, {row['confidence']:.0%} sure",
                fontsize=8.5,
            )
        return png(figure)
