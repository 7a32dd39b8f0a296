"""Figures of anomaly scores: distributions by class, decisions, score maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from cloud_assets.families.anomaly.metrics import LabelledScores, Scores
from cloud_assets.families.anomaly.recipe import AnomalyEvaluation, AnomalySection
from cloud_assets.families.anomaly.scores import UNITS
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.figures import (
    BASELINE_COLOUR,
    CURVE_SIZE,
    SERIES_COLOURS,
    UNIT,
    Picture,
    confusion_figure,
    drawing,
    png,
    without_ticks,
)
from cloud_assets.reports.predictions import band_channels

CAPTIONS = {
    "score_histogram": "A good score leaves a gap; the threshold was chosen on validation normals alone.",
    "roc": "Over all thresholds, beside rules that only look at brightness and contrast.",
    "confusion_matrix": "Test pictures by truth and decision; colour is the share of the true class.",
    "hardest_normals": "Highest scores of normal test pictures: false alarms above the threshold; maps share a scale.",
    "missed_anomalies": "Lowest scores of anomalous test pictures: missed below the threshold.",
    "clear_anomalies": "Anomalous test pictures with the highest scores.",
    "baselines": "Rules without learning on the same test pictures; thresholds: 90 % quantile of the known normals.",
    "normals_by_kind": "Normal test pictures by what their file names begin with, hardest first.",
    "suspicious_normals": "Training and validation pictures with outlying scores: look whether they are cloud-free.",
    "per_patch": "Test pictures, the worst mistakes first.",
    "splits": "Anomalous pictures are in the test split only.",
}


def anomaly_figures(
    recipe: AnomalyEvaluation,
    predictor: Predictor,
    store: PatchStore,
    rows: npt.NDArray[np.int64],
    labelled: LabelledScores,
    threshold: float,
    rules: Mapping[str, LabelledScores],
) -> dict[str, bytes | None]:
    """PNG images by name; None for those that the data do not allow."""
    card = predictor.card
    counts = np.asarray(confusion_matrix(labelled.is_anomalous, labelled.score >= threshold, labels=[False, True]))
    falling = np.argsort(-labelled.score, kind="stable")
    normal, anomalous = falling[~labelled.is_anomalous[falling]], falling[labelled.is_anomalous[falling]]
    gallery = {"hardest_normals": normal, "missed_anomalies": anomalous[::-1], "clear_anomalies": anomalous}
    return {
        "score_histogram": _score_histogram(labelled, threshold, UNITS[AnomalySection.of(card).score]),
        "roc": _roc_figure(labelled, threshold, rules),
        "confusion_matrix": confusion_figure(counts, card.classes, card.classes, unit="pictures"),
        **{
            name: _panels_figure(predictor, store, rows[places[: recipe.shown]], labelled.score[places[: recipe.shown]])
            for name, places in gallery.items()
        },
    }


def _score_histogram(labelled: LabelledScores, threshold: float, unit: str) -> bytes:
    """Scores of both classes with the threshold."""
    edges = np.histogram_bin_edges(labelled.score, 24)
    with drawing(*CURVE_SIZE) as (figure, axes):
        for scores, colour, name in (
            (labelled.normal, SERIES_COLOURS[2], "normal"),
            (labelled.anomalous, SERIES_COLOURS[0], "anomalous"),
        ):
            axes.hist(scores, bins=edges.tolist(), color=colour, alpha=0.6, label=f"{name}, {len(scores)} pictures")
        axes.axvline(threshold, color=SERIES_COLOURS[1], linestyle="--", label=f"threshold {threshold:.3g}")
        axes.set(xlabel=f"score ({unit})", ylabel="test pictures")
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower center", ncols=3)
        return png(figure)


def _roc_figure(labelled: LabelledScores, threshold: float, baselines: Mapping[str, LabelledScores]) -> bytes:
    """ROC curve of the model and of the trivial rules."""
    with drawing(*CURVE_SIZE) as (figure, axes):
        styles: list[Any] = [{"linestyle": one, "color": BASELINE_COLOUR, "linewidth": 1.5} for one in ("-", "--", ":")]
        styles.append({"color": SERIES_COLOURS[0]})
        for (name, one), style in zip({**baselines, "model": labelled}.items(), styles, strict=True):
            wrong, right, _ = roc_curve(one.is_anomalous, one.score)
            area = roc_auc_score(one.is_anomalous, one.score)
            axes.plot(wrong, right, label=f"{name}, area {area:.3f}", **style)
        point = (labelled.normal >= threshold).mean(), (labelled.anomalous >= threshold).mean()
        axes.plot(*point, "o", color=SERIES_COLOURS[1], markersize=9, label="the model's threshold")
        axes.set(aspect="equal", xlim=UNIT, ylim=UNIT)
        axes.set(xlabel="share of the normals called anomalous", ylabel="share of the anomalies found")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return png(figure)


def _panels_figure(
    predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], scores: Scores
) -> bytes | None:
    """One column a picture: original, reconstruction if there is one, error map; all maps share one scale."""
    if not len(rows):
        return None
    preprocessing = predictor.card.preprocessing
    channels = band_channels(store.roles[IMAGES], preprocessing.bands)
    patches = [store.array(IMAGES)[row : row + 1][:, channels] for row in rows]
    maps = [predictor.predict(dn)["error_map"][0] for dn in patches]
    darkest, brightest = preprocessing.clip
    physical = [preprocessing.to_physical(dn)[0][0] for dn in patches]  # what patches are standardised from
    pictures = {"original": [_shown((one - darkest) / (brightest - darkest)) for one in physical]}
    reconstruct = getattr(predictor, "reconstruct", None)
    if reconstruct is not None and reconstruct(patches[0]) is not None:
        pictures["reconstruction"] = [_shown(reconstruct(dn)[0]) for dn in patches]
    names = [*pictures, "error map"]
    highest = max(float(np.nanpercentile(error, 99.5)) for error in maps)
    shape = len(names), len(rows)
    with drawing(1.75 * shape[1] + 0.9, 1.9 * shape[0] + 0.6, *shape) as (figure, grid):
        grid = grid.reshape(shape)
        for column, (row, score) in enumerate(zip(rows, scores, strict=True)):
            for axes, shown in zip(grid[:, column], pictures.values(), strict=False):
                axes.imshow(shown[column], vmin=0, vmax=1)
            drawn = grid[-1, column].imshow(maps[column], cmap="magma", vmin=0, vmax=max(highest, 1e-6))
            name = str(store.index["patch_id"].iloc[row]).split("/")[-1]
            grid[0, column].set_title(f"{name}\n{score:.3g}", fontsize=8)
        for axes in grid.flat:
            without_ticks(axes)
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name)
        figure.colorbar(drawn, ax=grid[-1].tolist(), shrink=0.9)
        return png(figure)


def _shown(scaled: npt.NDArray[np.float32]) -> Picture:
    """Three bands of a picture between 0 and 1, without any stretch that would hide brightness."""
    shown = np.clip(np.moveaxis(scaled[[0, 1, 2] if len(scaled) >= 3 else [0, 0, 0]], 0, -1), 0, 1)
    return np.asarray(shown, np.float32)
