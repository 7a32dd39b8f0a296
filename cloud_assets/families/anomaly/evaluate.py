"""Evaluation of an anomaly model on normal and anomalous test pictures, beside rules without learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.anomaly.baselines import baseline_scores
from cloud_assets.families.anomaly.card_section import AnomalySection
from cloud_assets.families.anomaly.gallery import CAPTIONS, anomaly_figures, anomaly_notes
from cloud_assets.families.anomaly.metrics import (
    LabelledScores,
    auroc_interval,
    decision_metrics,
    ranking_metrics,
    robust_outliers,
)
from cloud_assets.families.anomaly.normal_split import ANOMALOUS, classes_of
from cloud_assets.reports.evaluation import EvaluationRun, Findings, evaluation_of
from cloud_assets.reports.predictions import predict_patches

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.families.anomaly.evaluation import AnomalyEvaluation
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.evaluation import Evaluation

HEADLINE = (
    "auroc", "f1", "precision", "recall", "average_precision", "false_alarm_rate", "false_alarms_at_95_recall",
    "hard_auroc",
)  # fmt: skip
CONSTANT = "everything anomalous"
_SHARED_SCORES = ("score", "is_anomaly", "error_map")


def evaluate(recipe: AnomalyEvaluation, run: EvaluationRun) -> Evaluation:
    """Evaluates a model; see :meth:`Family.evaluate`."""
    predictor, card, store, splits = run.predictor, run.card, run.store, run.splits
    rows = splits.indices("test")
    is_anomalous = classes_of(splits, rows) == ANOMALOUS
    if not is_anomalous.any() or is_anomalous.all() or card.threshold is None:
        raise NoUsablePatches(
            f"{card.task}/{card.variant}: the test split holds {int((~is_anomalous).sum())} normal and "
            f"{int(is_anomalous.sum())} anomalous pictures; both are needed, and a model with a threshold. Look at the "
            "splits and the data."
        )
    scores = _scores(predictor, store, rows, "Testing", run.progress)
    there = np.isfinite(scores["score"])
    rows, is_anomalous = rows[there], is_anomalous[there]
    scores = {name: values[there] for name, values in scores.items()}
    labelled = LabelledScores(scores["score"], is_anomalous)
    threshold = card.threshold.value
    metrics = ranking_metrics(labelled) | decision_metrics(labelled, threshold)
    metrics["auroc_low"], metrics["auroc_high"] = auroc_interval(labelled)
    for name in sorted(scores.keys() - {*_SHARED_SCORES}):
        metrics[f"auroc_{name}"] = ranking_metrics(LabelledScores(scores[name], is_anomalous))["auroc"]
    if (promised := AnomalySection.of(card).promised_false_alarm_rate) is not None:
        metrics["promised_false_alarm_rate"] = promised
    rules = {name: LabelledScores(values, is_anomalous) for name, values in baseline_scores(store, rows).items()}
    baselines = {name: ranking_metrics(rule) | _at_quantile(rule, store, splits, name) for name, rule in rules.items()}
    best = max(baselines, key=lambda name: baselines[name]["auroc"])
    constant = LabelledScores(np.ones(len(rows)), is_anomalous)
    baselines[CONSTANT] = ranking_metrics(constant) | decision_metrics(constant, 1.0)
    per_patch = _patch_table(store, rows, labelled, threshold, scores)
    kinds = _kind_table(recipe, per_patch, labelled)
    hard = per_patch["kind"].isin(recipe.hard_prefixes).to_numpy()
    order = per_patch["place"].to_numpy()
    is_hard = np.zeros(len(rows), bool)
    is_hard[order[hard]] = True
    if (is_hard & ~is_anomalous).any():
        chosen = is_anomalous | is_hard
        slice_ = LabelledScores(labelled.score[chosen], is_anomalous[chosen])
        metrics["hard_auroc"] = ranking_metrics(slice_)["auroc"]
        metrics["hard_false_alarm_rate"] = decision_metrics(slice_, threshold)["false_alarm_rate"]
    suspicious = _suspicious(recipe, predictor, store, splits, run.progress)
    found = Findings(
        test=metrics,
        validation={},
        rules=baselines,
        stated_rules={"baseline": best, "constant": CONSTANT},
        tables={
            "normals_by_kind": kinds,
            "suspicious_normals": suspicious,
            "per_patch": per_patch.drop(columns="place"),
        },
        figures=anomaly_figures(recipe, predictor, store, rows, labelled, rules, is_hard),
        captions=CAPTIONS,
        notes=anomaly_notes(card, metrics, suspicious, best, baselines[best]["auroc"], int((~there).sum())),
        headline=HEADLINE,
    )
    return evaluation_of(recipe, run, found)


def _scores(
    predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], title: str, progress: bool
) -> dict[str, npt.NDArray[np.float64]]:
    """(N,) scores by name."""
    found: dict[str, list[Any]] = {}
    for batch in predict_patches(predictor, store, rows, batch_size=4, title=title, progress=progress):
        for name, values in batch.answer.items():
            if values.ndim == 1 and values.dtype != bool:
                found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in found.items()}


def _at_quantile(rule: LabelledScores, store: PatchStore, splits: Splits, name: str) -> dict[str, float]:
    """Decisions of a rule whose threshold is the 90 % quantile of the training and validation normals."""
    known = np.concatenate([splits.indices("train"), splits.indices("validation")])
    known = known[classes_of(splits, known) == NORMAL]
    return decision_metrics(rule, float(np.quantile(baseline_scores(store, known)[name], 0.9)))


def _patch_table(
    store: PatchStore,
    rows: npt.NDArray[np.int64],
    labelled: LabelledScores,
    threshold: float,
    scores: dict[str, npt.NDArray[np.float64]],
) -> pd.DataFrame:
    """One row a test picture, the worst mistakes first; ``kind`` is what its file's name begins with."""
    import pandas as pd

    index = store.index.iloc[rows]
    names = index["patch_id"].str.split("/").str[-1]
    called = labelled.score >= threshold
    table = pd.DataFrame(
        {
            "patch_id": index["patch_id"].to_numpy(),
            "kind": names.str.split(r"[_.\-]", regex=True).str[0].to_numpy(),
            "truth": np.where(labelled.is_anomalous, ANOMALOUS, NORMAL),
            "called": np.where(called, ANOMALOUS, NORMAL),
            **{name: values for name, values in scores.items() if name not in _SHARED_SCORES},
            "distance_to_threshold": labelled.score - threshold,
            "place": np.arange(len(rows)),
        }
    )
    badness = np.where(labelled.is_anomalous, threshold - labelled.score, labelled.score - threshold)
    return table.iloc[np.argsort(-badness, kind="stable")].reset_index(drop=True)


def _kind_table(recipe: AnomalyEvaluation, per_patch: pd.DataFrame, labelled: LabelledScores) -> pd.DataFrame:
    """One row a kind of normal picture, hardest first: how often called anomalous, AUROC against all anomalies."""
    import pandas as pd

    rows = []
    for kind, part in per_patch[per_patch["truth"] == NORMAL].groupby("kind"):
        score = labelled.score[part["place"].to_numpy()]
        chosen = LabelledScores(
            np.r_[score, labelled.anomalous], np.r_[np.zeros(len(score)), np.ones(len(labelled.anomalous))] > 0
        )
        rows.append(
            {
                "kind": str(kind),
                "is_hard": kind in recipe.hard_prefixes,
                "pictures": len(part),
                "false_alarms": int((part["called"] == ANOMALOUS).sum()),
                "mean_score": float(score.mean()),
                "auroc_against_anomalies": ranking_metrics(chosen)["auroc"],
            }
        )
    return pd.DataFrame(rows).sort_values("auroc_against_anomalies", ignore_index=True)


def _suspicious(
    recipe: AnomalyEvaluation, predictor: Predictor, store: PatchStore, splits: Splits, progress: bool
) -> pd.DataFrame:
    """Pictures among those trained on whose score lies far above the others': maybe not cloud-free after all."""
    import pandas as pd

    known = np.concatenate([splits.indices("train"), splits.indices("validation")])
    known = known[classes_of(splits, known) == NORMAL]
    score = _scores(predictor, store, known, "Looking for outliers", progress)["score"]
    known, score = known[np.isfinite(score)], score[np.isfinite(score)]
    far = robust_outliers(score, recipe.outlier_deviations)
    table = pd.DataFrame({"patch_id": store.index["patch_id"].to_numpy()[known[far]], "score": score[far]})
    return table.sort_values("score", ascending=False, ignore_index=True)
