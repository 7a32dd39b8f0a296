"""Evaluation of an anomaly model on normal and anomalous test pictures, beside rules without learning."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.anomaly.figures import CAPTIONS, anomaly_figures
from cloud_assets.families.anomaly.metrics import (
    LabelledScores,
    Scores,
    auroc_interval,
    baseline_scores,
    decision_metrics,
    ranking_metrics,
    robust_outliers,
    score_patches,
)
from cloud_assets.families.anomaly.normal_split import ANOMALOUS, classes_of
from cloud_assets.families.anomaly.recipe import AnomalyEvaluation, AnomalySection
from cloud_assets.families.anomaly.scores import DISCRIMINATION, UNITS
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation, EvaluationRun, Findings, evaluation_of

HEADLINE = (
    "auroc", "f1", "precision", "recall", "average_precision", "false_alarm_rate", "false_alarms_at_95_recall",
    "hard_auroc",
)  # fmt: skip
CONSTANT = "everything anomalous"


def evaluate(recipe: AnomalyEvaluation, run: EvaluationRun) -> Evaluation:
    """Evaluates a model; see :meth:`Family.evaluate`."""
    card, store, splits = run.card, run.store, run.splits
    rows = splits.indices("test")
    is_anomalous = classes_of(splits, rows) == ANOMALOUS
    if not is_anomalous.any() or is_anomalous.all() or card.threshold is None:
        raise NoUsablePatches(
            f"{card.task}/{card.variant}: the test split holds {int((~is_anomalous).sum())} normal and "
            f"{int(is_anomalous.sum())} anomalous pictures; both are needed, and a model with a threshold. Look at the "
            "splits and the data."
        )
    scores = score_patches(run.predictor, store, rows, "Testing", run.progress)
    there = np.isfinite(scores["score"])
    rows, is_anomalous = rows[there], is_anomalous[there]
    scores = {name: values[there] for name, values in scores.items()}
    labelled = LabelledScores(scores["score"], is_anomalous)
    threshold = card.threshold.value
    metrics = ranking_metrics(labelled) | decision_metrics(labelled, threshold)
    metrics["auroc_low"], metrics["auroc_high"] = auroc_interval(labelled)
    for name in sorted(scores.keys() - {"score"}):
        metrics[f"auroc_{name}"] = ranking_metrics(LabelledScores(scores[name], is_anomalous))["auroc"]
    if (promised := AnomalySection.of(card).promised_false_alarm_rate) is not None:
        metrics["promised_false_alarm_rate"] = promised
    known = np.concatenate([splits.indices("train"), splits.indices("validation")])
    known = known[classes_of(splits, known) == NORMAL]
    rules = {name: LabelledScores(values, is_anomalous) for name, values in baseline_scores(store, rows).items()}
    # A rule decides by the 90 % quantile of the training and validation normals.
    quantiles = {name: float(np.quantile(values, 0.9)) for name, values in baseline_scores(store, known).items()}
    baselines = {name: ranking_metrics(rule) | decision_metrics(rule, quantiles[name]) for name, rule in rules.items()}
    best = max(baselines, key=lambda name: baselines[name]["auroc"])
    constant = LabelledScores(np.ones(len(rows)), is_anomalous)
    baselines[CONSTANT] = ranking_metrics(constant) | decision_metrics(constant, 1.0)
    # What file names begin with.
    kinds = store.index["patch_id"].iloc[rows].str.split("/").str[-1].str.split(r"[_.\-]", regex=True).str[0].to_numpy()
    chosen = np.isin(kinds, recipe.hard_prefixes)
    if (chosen & ~is_anomalous).any():
        chosen |= is_anomalous
        slice_ = LabelledScores(labelled.score[chosen], is_anomalous[chosen])
        metrics["hard_auroc"] = ranking_metrics(slice_)["auroc"]
        metrics["hard_false_alarm_rate"] = decision_metrics(slice_, threshold)["false_alarm_rate"]
    per_patch = _patch_table(store, rows, kinds, labelled, threshold, scores)
    # Maybe not cloud-free after all.
    known_score = score_patches(run.predictor, store, known, "Looking for outliers", run.progress)["score"]
    far = robust_outliers(known_score, recipe.outlier_deviations)
    suspicious = pd.DataFrame({"patch_id": store.index["patch_id"].to_numpy()[known[far]], "score": known_score[far]})
    suspicious = suspicious.sort_values("score", ascending=False, ignore_index=True)
    found = Findings(
        test=metrics,
        validation={},
        rules=baselines,
        stated_rules={"baseline": best, "constant": CONSTANT},
        tables={
            "normals_by_kind": _kind_table(recipe, per_patch, labelled),
            "suspicious_normals": suspicious,
            "per_patch": per_patch.reset_index(drop=True),
        },
        figures=anomaly_figures(recipe, run.predictor, store, rows, labelled, threshold, rules),
        captions=CAPTIONS,
        notes=_notes(card, metrics, suspicious, best, baselines[best]["auroc"], int((~there).sum())),
        headline=HEADLINE,
    )
    return evaluation_of(recipe, run, found)


def _patch_table(
    store: PatchStore,
    rows: npt.NDArray[np.int64],
    kinds: npt.NDArray[Any],
    labelled: LabelledScores,
    threshold: float,
    scores: Mapping[str, Scores],
) -> pd.DataFrame:
    """One row a test picture, the worst mistakes first; the index is where it stands among the rows."""
    distance = labelled.score - threshold
    table = pd.DataFrame(
        {
            "patch_id": store.index["patch_id"].iloc[rows].to_numpy(),
            "kind": kinds,
            "truth": np.where(labelled.is_anomalous, ANOMALOUS, NORMAL),
            "called": np.where(labelled.score >= threshold, ANOMALOUS, NORMAL),
            **{name: values for name, values in scores.items() if name != "score"},
            "distance_to_threshold": distance,
        }
    )
    order = np.argsort(np.where(labelled.is_anomalous, distance, -distance), kind="stable")
    return table.iloc[order]


def _kind_table(recipe: AnomalyEvaluation, per_patch: pd.DataFrame, labelled: LabelledScores) -> pd.DataFrame:
    """One row a kind of normal picture, hardest first: how often called anomalous, AUROC against all anomalies."""
    rows = []
    for kind, part in per_patch[per_patch["truth"] == NORMAL].groupby("kind"):
        places = np.r_[part.index, np.flatnonzero(labelled.is_anomalous)]
        chosen = LabelledScores(labelled.score[places], labelled.is_anomalous[places])
        rows.append(
            {
                "kind": str(kind),
                "is_hard": kind in recipe.hard_prefixes,
                "pictures": len(part),
                "false_alarms": int((part["called"] == ANOMALOUS).sum()),
                "mean_score": float(chosen.normal.mean()),
                "auroc_against_anomalies": ranking_metrics(chosen)["auroc"],
            }
        )
    return pd.DataFrame(rows).sort_values("auroc_against_anomalies", ignore_index=True)


def _notes(
    card: ModelCard, metrics: Mapping[str, float], suspicious: pd.DataFrame, rule: str, auroc: float, blank: int
) -> list[str]:
    """What a reader has to know, also of the best rule, its AUROC, and how many pictures are without data."""
    score = AnomalySection.of(card).score
    normals, anomalies = int(metrics["tn"] + metrics["fp"]), int(metrics["tp"] + metrics["fn"])
    held = (
        f"{metrics['false_alarm_rate']:.1%} of the {normals} held-out normals were called anomalous "
        f"(95 % interval {metrics['false_alarm_rate_low']:.1%} to {metrics['false_alarm_rate_high']:.1%})"
    )
    promised = metrics.get("promised_false_alarm_rate")
    promise = "" if promised is None else f"; at most {promised:.0%} had been promised"
    if promised is not None and metrics["false_alarm_rate_low"] > promised:
        promise += ", and that promise was broken"
    notes = [
        f"The score is {score}: {UNITS[score]}. Threshold: {card.threshold.method if card.threshold else 'none'}.",
        f"{held}{promise}.",
        f"AUROC {metrics['auroc']:.3f}, 95 % interval {metrics['auroc_low']:.3f} to {metrics['auroc_high']:.3f} "
        f"(bootstrap, {normals} normal and {anomalies} anomalous pictures); the best rule without learning is "
        f"'{rule}' with {auroc:.3f}.",
        "f1_best is the best that any threshold could reach on these very pictures: a bound, not a result.",
    ]
    if score in DISCRIMINATION:
        notes.append(
            "This model was trained on cloud-free pictures and on the same with simulated clouds laid over; it saw no "
            "real cloud. On the embedded sample the anomalies come from the very same simulation, so its numbers there "
            "flatter it; only real pictures show what it is worth."
        )
    if len(suspicious):
        named = ", ".join(suspicious["patch_id"].head(5))
        notes.append(f"{len(suspicious)} of the pictures trained on have outlying scores: are they clear? {named}.")
    if blank:
        notes.append(f"{blank} test pictures without any valid pixel were not scored.")
    return notes
