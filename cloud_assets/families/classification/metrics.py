"""Metrics of ordered classes, by scikit-learn and torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Integers = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """True classes and what a model or a rule says."""

    truth: Integers
    """(N,) class numbers."""
    predicted: Integers
    """(N,) class numbers."""
    probability: npt.NDArray[np.float32] | None = None
    """(N, K), rows adding up to 1; None for rules that only decide."""

    def __len__(self) -> int:
        return len(self.truth)


def decision_metrics(answers: Answers, classes: int) -> dict[str, float]:
    """Metrics of the decisions alone.

    Args:
        answers: At least one.
        classes: Number of classes K.

    Returns:
        Macro averages are over the classes that the truth holds; ``quadratic_weighted_kappa`` is left out where it is
        not defined (all truth and all answers one class).
    """
    from sklearn.metrics import cohen_kappa_score, mean_absolute_error, precision_recall_fscore_support

    truth, predicted = answers.truth, answers.predicted
    present = np.unique(truth)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, labels=present, average="macro", zero_division=0.0
    )
    metrics = {
        "accuracy": float((truth == predicted).mean()),
        # Recall averaged over the classes of the truth is what scikit-learn calls balanced accuracy.
        "balanced_accuracy": float(recall),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "mean_absolute_class_error": float(mean_absolute_error(truth, predicted)),
        "within_one_class": float((abs(truth - predicted) <= 1).mean()),
    }
    if len(np.union1d(truth, predicted)) > 1:
        kappa = cohen_kappa_score(truth, predicted, labels=range(classes), weights="quadratic")
        metrics["quadratic_weighted_kappa"] = float(kappa)
    return metrics


def probability_metrics(answers: Answers, names: Sequence[str], bins: int) -> dict[str, float]:
    """Metrics of the probabilities: areas under the ROC curves, calibration error.

    Returns:
        ``auroc_<class>``, their mean ``auroc`` and the pooled ``auroc_micro`` where the truth holds the class and
        others; ``expected_calibration_error`` of the likeliest class (Guo et al. 2017, arXiv:1706.04599); ``log_loss``.
    """
    import torch
    from sklearn.metrics import log_loss, roc_auc_score
    from torchmetrics.functional.classification import multiclass_calibration_error

    probability = answers.probability
    if probability is None:
        return {}
    each = one_hot(answers.truth, len(names))
    metrics = {
        f"auroc_{name}": float(roc_auc_score(each[:, number], probability[:, number]))
        for number, name in enumerate(names)
        if 0 < each[:, number].sum() < len(each)
    }
    if metrics:
        metrics["auroc"] = float(np.mean(list(metrics.values())))
        metrics["auroc_micro"] = float(roc_auc_score(each.ravel(), probability.ravel()))
    error = multiclass_calibration_error(
        torch.from_numpy(probability), torch.from_numpy(answers.truth), num_classes=len(names), n_bins=bins, norm="l1"
    )
    metrics["expected_calibration_error"] = float(error)
    exact = probability.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    metrics["log_loss"] = float(log_loss(answers.truth, exact, labels=range(len(names))))
    return metrics


def class_table(answers: Answers, names: Sequence[str]) -> pd.DataFrame:
    """One row a class: name, samples, how often predicted, precision, recall, f1 (NaN where undefined)."""
    import pandas as pd
    from sklearn.metrics import precision_recall_fscore_support

    numbers = range(len(names))
    precision, recall, f1, samples = precision_recall_fscore_support(
        answers.truth, answers.predicted, labels=numbers, zero_division=np.nan
    )
    predicted = np.bincount(answers.predicted, minlength=len(names))
    columns = {"samples": samples, "predicted": predicted, "precision": precision, "recall": recall, "f1": f1}
    return pd.DataFrame({"class": list(names), **columns})


def confusion_counts(answers: Answers, classes: int) -> Integers:
    """(K, K) samples by true class (row) and predicted class (column)."""
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(answers.truth, answers.predicted, labels=range(classes)), np.int64)


def one_hot(truth: Integers, classes: int) -> npt.NDArray[np.bool_]:
    """(N, K) True at each sample's class."""
    matches: npt.NDArray[np.bool_] = truth[:, None] == np.arange(classes)
    return matches
