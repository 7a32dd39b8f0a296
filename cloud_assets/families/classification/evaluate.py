"""Evaluation of a coverage classifier on its test split, beside rules without a classifier."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cloud_assets.errors import InvalidModel, NoUsablePatches
from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows, label_windows
from cloud_assets.families.classification.figures import CAPTIONS, classification_figures
from cloud_assets.families.classification.metrics import (
    Answers,
    bright_shares,
    class_table,
    classify_by_mask,
    decision_metrics,
    fit_brightness,
    probability_metrics,
)
from cloud_assets.families.classification.recipe import ClassificationEvaluation, ClassificationSection
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import SPLITS
from cloud_assets.patches.store import PatchStore
from cloud_assets.progress import progress_bar
from cloud_assets.reports.evaluation import Evaluation, EvaluationRun, Findings, evaluation_of, interval_note
from cloud_assets.reports.figures import visible_bands
from cloud_assets.reports.predictions import band_channels

HEADLINE = (
    "accuracy", "balanced_accuracy", "f1", "quadratic_weighted_kappa", "mean_absolute_class_error", "auroc",
    "expected_calibration_error",
)  # fmt: skip
BRIGHTNESS, MAJORITY = "share of bright pixels", "most frequent class"
_REFUSED = 255


def evaluate(recipe: ClassificationEvaluation, run: EvaluationRun) -> Evaluation:
    """Evaluates a model; see :meth:`Family.evaluate`."""
    patches = len(run.test_rows(needs_masks=True))
    classes = ClassificationSection.of(run.card).classes(run.card)
    windows, answers = _scored(recipe, run, "test")
    _, validated = _scored(recipe, run, "validation")
    rules, notes = _rules(recipe, run, windows, classes)
    samples = _sample_table(run.store, windows, answers, classes)
    scenes = _scene_table(samples)
    test, validation = (
        {
            **decision_metrics(one, len(classes.names)),
            **probability_metrics(one, classes.names, recipe.calibration_bins),
            "samples": float(len(one)),
        }
        for one in (answers, validated)
    )
    found = Findings(
        test=test,
        validation=validation,
        rules=rules,
        stated_rules={
            "baseline": max(rules, key=lambda name: rules[name]["accuracy"]),
            "bright_share": BRIGHTNESS,
            "majority": MAJORITY,
        },
        tables={"per_class": class_table(answers, classes.names), "per_scene": scenes, "per_sample": samples},
        figures=classification_figures(recipe, run.store, windows, answers, samples, classes),
        captions=CAPTIONS,
        notes=(*_notes(patches, windows, classes, scenes), *notes),
        headline=HEADLINE,
        sections={"Classes": dict(zip(classes.names, classes.describe(), strict=True))},
    )
    return evaluation_of(recipe, run, found)


def _windows(recipe: ClassificationEvaluation, run: EvaluationRun, split: str, count: int) -> Windows:
    """The samples of a split: the same for every model that is evaluated on these splits."""
    section = ClassificationSection.of(run.card)
    try:
        return label_windows(
            run.store,
            run.splits.indices(split),
            section.classes(run.card),
            count=count,
            scale=recipe.window_scale,
            minimum_valid=section.minimum_valid,
            seed=SPLITS.index(split),
        )
    except NoUsablePatches as error:
        raise NoUsablePatches(f"the {split} split has to be scored, but {error}") from error


def _scored(recipe: ClassificationEvaluation, run: EvaluationRun, split: str) -> tuple[Windows, Answers]:
    """The samples of a split that the model answers, and its answers."""
    windows = _windows(recipe, run, split, recipe.windows)
    channels = band_channels(run.store.roles[IMAGES], run.card.bands)
    found = np.empty(len(windows), np.int64)
    probability = np.empty((len(windows), len(run.card.classes)), np.float32)
    for position in progress_bar(f"Scoring {split}", len(windows), "", run.progress, iterable=range(len(windows))):
        # Windows differ in size, so each one goes by itself.
        answer = run.predictor.predict(windows.read(run.store, position, IMAGES)[None, channels])
        found[position], probability[position] = answer["class"][0], answer["class_probability"][0]
    answered = np.flatnonzero(found != _REFUSED)
    if not len(answered):
        raise NoUsablePatches(f"the model refused all {len(windows)} samples of the {split} split: look at them.")
    kept = replace(windows.subset(answered), refused=windows.refused + len(windows) - len(answered))
    return kept, Answers(kept.labels, found[answered], probability[answered])


def _rules(
    recipe: ClassificationEvaluation, run: EvaluationRun, windows: Windows, classes: CoverageClasses
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Metrics of the rules without a classifier on the test samples, and notes about them."""
    fitted_on = _windows(recipe, run, "train", recipe.baseline_windows)
    brightness = fit_brightness(run.store, fitted_on, classes)
    majority = int(np.argmax(fitted_on.class_counts(len(classes.names))))
    rules = {
        BRIGHTNESS: classes.classify(bright_shares(run.store, windows, brightness)[:, 0]),
        MAJORITY: np.full(len(windows), majority, np.int64),
    }
    notes = [
        f"Baseline '{BRIGHTNESS}': pixels with a mean reflectance of at least {brightness:.2f} in "
        f"{', '.join(visible_bands(run.store.roles[IMAGES]))} count as cloud; the threshold is fitted on the training "
        "split."
    ]
    for name, bundle in run.references.items():
        title, rule = f"masks of {name}", f"coverage of {name}'s mask"
        try:
            rules[rule] = classify_by_mask(bundle, run.store, windows, classes, title=title, progress=run.progress)
        except (InvalidModel, NoUsablePatches) as error:
            notes.append(f"No baseline from the champion of {name}: {error}")
            continue
        notes.append(f"Baseline '{rule}': from {bundle.card.variant}, version {bundle.version}.")
    if not run.references:
        notes.append(
            "No segmentation champion was there when this was evaluated, so the coverage of its mask is no "
            "baseline here. Run a segmentation job first, then evaluate again."
        )
    scores = {name: decision_metrics(Answers(windows.labels, said), len(classes.names)) for name, said in rules.items()}
    return scores, notes


def _sample_table(store: PatchStore, windows: Windows, answers: Answers, classes: CoverageClasses) -> pd.DataFrame:
    """One row a sample, mistakes before right answers, the surest first."""
    names = np.array(classes.names)
    index = store.index.iloc[windows.rows]
    table = pd.DataFrame(
        {
            "patch_id": index["patch_id"].to_numpy(),
            "group": index["group"].to_numpy(),
            **dict(zip(("row", "col", "height", "width"), windows.boxes.T, strict=True)),
            "cloud_percentage": windows.percentages,
            "true_class": names[answers.truth],
            "predicted_class": names[answers.predicted],
            "confidence": np.take_along_axis(answers.probability, answers.predicted[:, None], axis=1)[:, 0],
            "class_error": abs(answers.truth - answers.predicted),
            "sample": np.arange(len(answers)),
        }
    )
    order = np.lexsort([-table["confidence"], table["class_error"] == 0])
    return table.iloc[order].reset_index(drop=True)


def _scene_table(samples: pd.DataFrame) -> pd.DataFrame:
    """One row a scene: ``group``, ``samples``, ``accuracy``, ``mean_absolute_class_error``, ``cloud_percentage``."""
    grouped = samples.assign(accuracy=samples["class_error"] == 0).groupby("group")
    table = grouped.agg(
        samples=("accuracy", "size"),
        accuracy=("accuracy", "mean"),
        mean_absolute_class_error=("class_error", "mean"),
        cloud_percentage=("cloud_percentage", "mean"),
    )
    return table.reset_index().sort_values("accuracy", ignore_index=True)


def _notes(patches: int, windows: Windows, classes: CoverageClasses, scenes: pd.DataFrame) -> list[str]:
    """What a reader of the numbers has to know about the samples."""
    notes = [
        "Cloud cover is thick and thin cloud over the labelled pixels of a sample; classes: "
        + ", ".join(classes.describe()) + "."
    ]  # fmt: skip
    if len(windows) > patches:
        notes.append(
            f"The {patches} test patches are supplemented with random windows to {len(windows)} samples, all "
            "classes alike. Windows of one patch resemble each other: the interval below counts scenes, not samples."
        )
    notes += interval_note(scenes, "accuracy")
    counts = windows.class_counts(len(classes.names))
    absent = [name for name, count in zip(classes.names, counts, strict=True) if count == 0]
    if absent:
        notes.append(f"Not in the test split, so without metrics: {', '.join(absent)}.")
    if windows.refused:
        notes.append(f"{windows.refused} samples with too few valid or labelled pixels were refused.")
    return notes
