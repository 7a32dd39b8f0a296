"""Figures and notes of an anomaly model's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.families.anomaly.card_section import AnomalySection
from cloud_assets.families.anomaly.figures import Panel, panels_figure, roc_figure, score_histogram
from cloud_assets.families.anomaly.metrics import LabelledScores
from cloud_assets.families.anomaly.scores import UNITS
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.figures import Picture, confusion_figure
from cloud_assets.reports.predictions import band_channels

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.families.anomaly.evaluation import AnomalyEvaluation
    from cloud_assets.inference.bundle import ModelCard
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import PatchStore

CAPTIONS = {
    "score_histogram": "A good score leaves a gap; the threshold was chosen on validation normals alone.",
    "roc": "Over all thresholds, beside rules that only look at brightness and contrast.",
    "confusion_matrix": "Test pictures by truth and decision; colour is the share of the true class.",
    "hardest_normals": "Normal test pictures with the highest scores; all error maps here share one scale.",
    "missed_anomalies": "Anomalous test pictures with the lowest scores.",
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
    rules: Mapping[str, LabelledScores],
    is_hard: npt.NDArray[np.bool_],
) -> dict[str, bytes | None]:
    """PNG images by name; None for those that the data do not allow."""
    card = predictor.card
    threshold = 0.0 if card.threshold is None else card.threshold.value
    unit = UNITS[AnomalySection.of(card).score].unit
    called = labelled.score >= threshold
    counts = np.array(
        [
            [((labelled.is_anomalous == truth) & (called == said)).sum() for said in (False, True)]
            for truth in (False, True)
        ]
    )
    falling = np.argsort(-labelled.score, kind="stable")
    normal, anomalous = falling[~labelled.is_anomalous[falling]], falling[labelled.is_anomalous[falling]]
    gallery = {
        "hardest_normals": normal[: recipe.shown],
        "missed_anomalies": anomalous[::-1][: recipe.shown],
        "clear_anomalies": anomalous[: recipe.shown],
    }
    pictures: dict[str, bytes | None] = {
        "score_histogram": score_histogram(labelled, threshold, unit),
        "roc": roc_figure(labelled, threshold, rules),
        "confusion_matrix": confusion_figure(counts, card.classes, card.classes, unit="pictures"),
    }
    for name, places in gallery.items():
        pictures[name] = panels_figure(
            [_panel(predictor, store, int(rows[place]), labelled.score[place]) for place in places]
        )
    return pictures


def _panel(predictor: Predictor, store: PatchStore, row: int, score: float) -> Panel:
    preprocessing = predictor.card.preprocessing
    channels = band_channels(store.roles[IMAGES], preprocessing.bands)
    dn = store.array(IMAGES)[row : row + 1][:, channels]
    reconstruct = getattr(predictor, "reconstruct", None)
    made = None if reconstruct is None else reconstruct(dn)
    name = str(store.index["patch_id"].iloc[row]).split("/")[-1]
    return Panel(
        title=f"{name}\n{score:.3g}",
        picture=_shown(preprocessing(dn)[0][0]),
        reconstruction=None if made is None else _shown(made[0]),
        error_map=predictor.predict(dn)["error_map"][0],
    )


def _shown(scaled: npt.NDArray[np.float32]) -> Picture:
    """Three bands of a picture in the network's scale, without any stretch that would hide brightness."""
    shown = np.clip(np.moveaxis(scaled[[0, 1, 2] if len(scaled) >= 3 else [0, 0, 0]], 0, -1), 0, 1)
    return np.asarray(shown, np.float32)


def anomaly_notes(
    card: ModelCard,
    metrics: Mapping[str, float],
    suspicious: pd.DataFrame,
    best_rule: str,
    best_auroc: float,
    without_data: int,
) -> list[str]:
    """What a reader of the numbers has to know."""
    score = AnomalySection.of(card).score
    normals, anomalies = int(metrics["tn"] + metrics["fp"]), int(metrics["tp"] + metrics["fn"])
    held = (
        f"{metrics['false_alarm_rate']:.1%} of the {normals} held-out normals were called anomalous "
        f"(95 % interval {metrics['false_alarm_rate_low']:.1%} to {metrics['false_alarm_rate_high']:.1%})"
    )
    promised = metrics.get("promised_false_alarm_rate")
    promise = (
        ""
        if promised is None
        else f"; at most {promised:.0%} had been promised"
        + ("" if metrics["false_alarm_rate_low"] <= promised else ", and that promise was broken")
    )
    notes = [
        f"The score is {score}: {UNITS[score].unit}. Threshold: {card.threshold.method if card.threshold else 'none'}.",
        f"{held}{promise}.",
        f"AUROC {metrics['auroc']:.3f}, 95 % interval {metrics['auroc_low']:.3f} to {metrics['auroc_high']:.3f} "
        f"(bootstrap, {normals} normal and {anomalies} anomalous pictures); the best rule without learning is "
        f"'{best_rule}' with {best_auroc:.3f}.",
        "f1_best is the best that any threshold could reach on these very pictures: a bound, not a result.",
    ]
    if UNITS[score].method == "discrimination":
        notes.append(
            "This model was trained on cloud-free pictures and on the same with simulated clouds laid over; it saw no "
            "real cloud. On the embedded sample the anomalies come from the very same simulation, so its numbers there "
            "flatter it; only real pictures show what it is worth."
        )
    if len(suspicious):
        named = ", ".join(suspicious["patch_id"].head(5))
        notes.append(
            f"{len(suspicious)} of the pictures trained on have outlying scores; are they cloud-free? {named}."
        )
    if without_data:
        notes.append(f"{without_data} test pictures without any valid pixel were not scored.")
    return notes
