"""Metrics of ordered classes, by scikit-learn and torchmetrics, and baselines that need no classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import (
    cohen_kappa_score,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    precision_recall_fscore_support,
    roc_auc_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families import family_of, load_predictor
from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows, cloud_percentage
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.figures import visible_bands
from cloud_assets.reports.predictions import band_channels, instrument_of, predict_patches

Integers = npt.NDArray[np.int64]
_THRESHOLDS = np.linspace(0.02, 0.98, 97)  # reflectances that are tried as threshold


@dataclass(frozen=True)
class Answers:
    """True classes and what a model or a rule says."""

    truth: Integers  # (N,) class numbers
    predicted: Integers  # (N,) class numbers
    probability: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(N, K), rows adding up to 1; empty for rules that only decide."""

    def __len__(self) -> int:
        return len(self.truth)


def decision_metrics(answers: Answers, classes: int) -> dict[str, float]:
    """Metrics of the decisions alone, at least one, between a number of classes.

    Returns:
        Macro averages are over the classes that the truth holds; ``quadratic_weighted_kappa`` is left out where it is
        not defined (all truth and all answers one class).
    """
    truth, predicted = answers.truth, answers.predicted
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, labels=np.unique(truth), average="macro", zero_division=0.0
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
    probability = answers.probability
    each = answers.truth[:, None] == np.arange(len(names))
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
    precision, recall, f1, samples = precision_recall_fscore_support(
        answers.truth, answers.predicted, labels=range(len(names)), zero_division=np.nan
    )
    predicted = np.bincount(answers.predicted, minlength=len(names))
    columns = {"samples": samples, "predicted": predicted, "precision": precision, "recall": recall, "f1": f1}
    return pd.DataFrame({"class": list(names), **columns})


def confusion_counts(answers: Answers, classes: int) -> Integers:
    """(K, K) samples by true class (row) and predicted class (column)."""
    return np.asarray(confusion_matrix(answers.truth, answers.predicted, labels=range(classes)), np.int64)


def fit_brightness(store: PatchStore, windows: Windows, classes: CoverageClasses) -> float:
    """The brightness with the best accuracy on training windows; of several as good, the middle one."""
    accuracy = (classes.classify(bright_shares(store, windows, _THRESHOLDS)) == windows.labels[:, None]).mean(axis=0)
    best = np.flatnonzero(accuracy == accuracy.max())
    return float(_THRESHOLDS[best[len(best) // 2]])


def bright_shares(store: PatchStore, windows: Windows, thresholds: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(K, T) cloud cover in percent, were cloud what is as bright as one of T reflectances, the mean of visible bands.

    It is the share of a window's valid pixels; 0 where there are none.
    """
    role, limits = store.roles[IMAGES], np.atleast_1d(thresholds).astype(np.float32)
    channels, instrument = band_channels(role, visible_bands(role)), instrument_of(role)
    shares = np.zeros((len(windows), len(limits)))
    for position in range(len(windows)):
        dn = windows.read(store, position, IMAGES)
        brightness = np.sort(instrument.to_physical(dn[channels]).mean(axis=0)[instrument.valid(dn)])
        darker = np.searchsorted(brightness, limits, side="left")
        shares[position] = 100.0 * (len(brightness) - darker) / max(len(brightness), 1)
    return shares


def classify_by_mask(
    bundle: ModelBundle, store: PatchStore, windows: Windows, classes: CoverageClasses, *, title: str, progress: bool
) -> Integers:
    """(K,) classes by the coverage of a segmentation model's mask, made once for each patch and cut for each window.

    A model that does not make masks of these patches raises :class:`NoUsablePatches`.
    """
    card, instrument = bundle.card, store.roles[IMAGES].instrument
    makes_masks = "mask" in {product.name for product in family_of(bundle).products}
    if card.preprocessing.instrument != instrument or not makes_masks:
        raise NoUsablePatches(
            f"{card.task}/{card.variant} makes no masks of {instrument}: it is a {card.family} model for "
            f"{card.preprocessing.instrument}. Refer to another champion."
        )
    found = np.zeros(len(windows), np.int64)
    rows = np.unique(windows.rows)
    for batch in predict_patches(load_predictor(bundle), store, rows, batch_size=1, title=title, progress=progress):
        for position in np.flatnonzero(windows.rows == batch.indices[0]).tolist():
            percentage = cloud_percentage(batch.answer["mask"][0][windows.place(position)])
            # Labelled windows hold valid pixels, but their labels and the data need not be of the same ones.
            found[position] = classes.classify(np.nan_to_num(percentage))
    return found
