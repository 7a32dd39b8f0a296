"""Evaluation of a coverage classifier on its test split, beside rules without a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.classification.baselines import classify_by_mask, fit_bright_share
from cloud_assets.families.classification.card_section import ClassificationSection
from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows, label_windows
from cloud_assets.families.classification.gallery import (
    CAPTIONS,
    Scored,
    classification_figures,
    classification_notes,
    sample_table,
    scene_table,
)
from cloud_assets.families.classification.metrics import Answers, class_table, decision_metrics, probability_metrics
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import SPLITS
from cloud_assets.reports.evaluate import EvaluationRun, Findings, evaluation_of
from cloud_assets.reports.predictions import band_channels

if TYPE_CHECKING:
    from cloud_assets.families.classification.evaluation import ClassificationEvaluation
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.evaluation import Evaluation

HEADLINE = (
    "accuracy", "balanced_accuracy", "f1", "quadratic_weighted_kappa", "mean_absolute_class_error", "auroc",
    "expected_calibration_error",
)  # fmt: skip
BRIGHTNESS, MAJORITY = "share of bright pixels", "most frequent class"
_REFUSED = 255


def evaluate(recipe: ClassificationEvaluation, run: EvaluationRun) -> Evaluation:
    """Evaluates a model; see :meth:`Family.evaluate`."""
    predictor, card, store, splits = run.predictor, run.card, run.store, run.splits
    section = ClassificationSection.of(card)
    classes = section.classes(card)
    scorer = _Scorer(recipe, store, splits, classes, section.minimum_valid, run.progress)
    tested = scorer.score(predictor, "test")
    validated = scorer.score(predictor, "validation")
    answers, notes = scorer.rules(tested.windows, run.references)
    rules = {name: decision_metrics(answer, len(classes.names)) for name, answer in answers.items()}
    samples = sample_table(store, tested, classes)
    scenes = scene_table(samples)
    found = Findings(
        test=_metrics(tested, classes, recipe),
        validation=_metrics(validated, classes, recipe),
        rules=rules,
        stated_rules={
            "baseline": max(rules, key=lambda name: rules[name]["accuracy"]),
            "bright_share": BRIGHTNESS,
            "majority": MAJORITY,
        },
        tables={
            "per_class": class_table(tested.answers, classes.names),
            "per_scene": scenes,
            "per_sample": samples,
        },
        figures=classification_figures(recipe, store, tested, samples, classes),
        captions=CAPTIONS,
        notes=(*classification_notes(splits, tested, classes, scenes), *notes),
        headline=HEADLINE,
        sections={"Classes": dict(zip(classes.names, classes.describe(), strict=True))},
    )
    return evaluation_of(recipe, run, found)


class _Scorer:
    """Draws the samples of each split and has them classified."""

    def __init__(
        self,
        recipe: ClassificationEvaluation,
        store: PatchStore,
        splits: Splits,
        classes: CoverageClasses,
        minimum_valid: float,
        progress: bool,
    ) -> None:
        if not store.has_masks:
            raise NoUsablePatches(f"{store.directory} holds no masks, so nothing is known of its patches' cover.")
        self._recipe, self._store, self._splits = recipe, store, splits
        self._classes, self._minimum_valid, self._progress = classes, minimum_valid, progress

    def windows(self, split: str, count: int) -> Windows:
        """The same windows for every model that is evaluated on these splits."""
        try:
            return label_windows(
                self._store,
                self._splits.indices(split),
                self._classes,
                count=count,
                scale=self._recipe.window_scale,
                minimum_valid=self._minimum_valid,
                seed=SPLITS.index(split),
            )
        except NoUsablePatches as error:
            raise NoUsablePatches(f"the {split} split cannot be scored: {error}") from error

    def score(self, predictor: Predictor, split: str) -> Scored:
        """The model's answers to a split."""
        from tqdm import tqdm

        windows = self.windows(split, self._recipe.windows)
        channels = band_channels(self._store.roles[IMAGES], predictor.card.bands)
        found = np.empty(len(windows), np.int64)
        probability = np.empty((len(windows), len(self._classes.names)), np.float32)
        for position in tqdm(range(len(windows)), desc=f"scoring {split}", unit="sample", disable=not self._progress):
            # Windows differ in size, so each one goes by itself.
            answer = predictor.predict(windows.read(self._store, position, IMAGES)[None, channels])
            found[position], probability[position] = answer["class"][0], answer["class_probability"][0]
        answered = np.flatnonzero(found != _REFUSED)
        if not len(answered):
            raise NoUsablePatches(f"the model refused all {len(windows)} samples of the {split} split.")
        kept = windows.subset(answered)
        answers = Answers(kept.labels, found[answered], probability[answered])
        return Scored(kept, answers, len(windows) - len(answered))

    def rules(self, windows: Windows, references: Mapping[str, ModelBundle]) -> tuple[dict[str, Answers], list[str]]:
        """What the rules without a classifier say about the test samples, and notes about them."""
        fitted_on = self.windows("train", self._recipe.baseline_windows)
        bright = fit_bright_share(self._store, fitted_on, self._classes)
        majority = int(np.argmax(fitted_on.class_counts(len(self._classes.names))))
        rules = {
            BRIGHTNESS: Answers(windows.labels, bright.classify(self._store, windows, self._classes)),
            MAJORITY: Answers(windows.labels, np.full(len(windows), majority, np.int64)),
        }
        notes = [
            f"Baseline '{BRIGHTNESS}': pixels with a mean reflectance of at least {bright.threshold:.2f} in "
            f"{', '.join(bright.bands)} count as cloud; the threshold is fitted on the training split."
        ]
        for name, bundle in references.items():
            try:
                found = classify_by_mask(
                    bundle, self._store, windows, self._classes, title=f"masks of {name}", progress=self._progress
                )
            except NoUsablePatches as error:
                notes.append(f"No baseline from the champion of {name}: {error}")
                continue
            rule = f"coverage of {name}'s mask"
            rules[rule] = Answers(windows.labels, found)
            notes.append(f"Baseline '{rule}': from {bundle.card.variant}, version {bundle.version}.")
        if not references:
            notes.append(
                "No segmentation champion was there when this was evaluated, so the coverage of its mask is no "
                "baseline here. Run a segmentation job first, then evaluate again."
            )
        return rules, notes


def _metrics(scored: Scored, classes: CoverageClasses, recipe: ClassificationEvaluation) -> dict[str, float]:
    return {
        **decision_metrics(scored.answers, len(classes.names)),
        **probability_metrics(scored.answers, classes.names, recipe.calibration_bins),
        "samples": float(len(scored.answers)),
    }
