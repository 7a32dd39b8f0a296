"""Evaluation of a segmentation model on its test split, beside a brightness threshold and constant masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cloud_assets.bands import CLEAR, THICK_CLOUD
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.segmentation.figures import CAPTIONS, segmentation_figures
from cloud_assets.families.segmentation.metrics import (
    BrightnessThreshold,
    SegmentationScores,
    fit_brightness_threshold,
    table_metrics,
)
from cloud_assets.families.segmentation.recipe import SegmentationEvaluation
from cloud_assets.families.segmentation.stitched_scenes import StitchedScenes
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation, EvaluationRun, Findings, evaluation_of, interval_note
from cloud_assets.reports.predictions import predict_patches
from cloud_assets.reports.statistics import COUNT_COLUMNS, scene_table

HEADLINE = (
    "iou", "f1", "precision", "recall", "accuracy", "specificity", "balanced_accuracy", "average_precision", "miou",
    "official_jaccard",
)  # fmt: skip
BRIGHTNESS, ALL_CLOUD, ALL_CLEAR = "brightness threshold", "all cloud", "all clear"  # names of the trivial rules


@dataclass(frozen=True)
class SplitScores:
    """What the model and the brightness rule score on one split."""

    model: SegmentationScores
    brightness: SegmentationScores  # the brightness threshold's; empty if none could be fitted


def evaluate(recipe: SegmentationEvaluation, run: EvaluationRun) -> Evaluation:
    """Evaluates a model; see :meth:`Family.evaluate`."""
    predictor, card, store, splits = run.predictor, run.card, run.store, run.splits
    test = run.test_rows(needs_masks=True)
    baseline = fit_brightness_threshold(store, splits.indices("train"), recipe.baseline_patches)
    official = [scenes for protocol in recipe.protocols if (scenes := protocol.scenes_of(store, test)) is not None]
    tested = _scores(recipe, run, baseline, "test", official)
    validated = _scores(recipe, run, baseline, "validation")
    if not tested.model.counts.sum():
        raise NoUsablePatches(f"{card.task}/{card.variant}: the test split has no labelled pixel: look at the splits.")
    rules = _rules(tested, baseline)
    per_patch = _patch_table(store, tested.model)
    groups = store.index["group"].iloc[tested.model.indices].tolist()
    tables = {"per_scene": scene_table(groups, tested.model.patch_counts), "per_patch": per_patch}
    metrics = tested.model.metrics()
    notes = _notes(tested, tables["per_scene"], baseline)
    for scenes in official:
        metrics |= scenes.metrics()
        tables["official_scenes"] = scenes.table()
        notes.append(
            f"official_… are 38-Cloud's own score: {len(tables['official_scenes'])} stitched scenes, probability above "
            "12/255, all pixels, unweighted mean; Cloud-Net reaches a Jaccard index of 0.785 there."
        )
    if recipe.protocols and not official:
        notes.append("The official stitched-scene score was left out: the split holds no whole 38-Cloud test scene.")
    found = Findings(
        test=metrics,
        validation=validated.model.metrics(),
        rules=rules,
        stated_rules={"baseline": BRIGHTNESS, "all_cloud": ALL_CLOUD, "all_clear": ALL_CLEAR},
        tables=tables,
        figures=segmentation_figures(recipe, predictor, store, tested.model, per_patch, rules),
        captions=CAPTIONS,
        notes=notes,
        headline=HEADLINE,
    )
    return evaluation_of(recipe, run, found)


def _scores(
    recipe: SegmentationEvaluation,
    run: EvaluationRun,
    baseline: BrightnessThreshold | None,
    split: str,
    official: Sequence[StitchedScenes] = (),
) -> SplitScores:
    """Predicts and scores patches scene by scene, so that a stitched scene is complete as early as possible."""
    rows = run.splits.indices(split)
    rows = rows[np.argsort(run.store.index["group"].iloc[rows].to_numpy(dtype=str), kind="stable")]
    scores = SplitScores(SegmentationScores(len(run.card.classes) > 2), SegmentationScores(False))
    title = "Testing" if split == "test" else "Validating"
    for batch in predict_patches(
        run.predictor, run.store, rows, batch_size=recipe.batch_size, title=title, progress=run.progress
    ):
        mask, probability = batch.answer["mask"], batch.answer["cloud_probability"]
        truth = run.store.masks[batch.indices]
        scores.model.update(batch.indices, truth, mask, probability)
        if baseline is not None:
            scores.brightness.update(batch.indices, truth, baseline.mask(batch.images))
        for scenes in official:
            scenes.update(batch.indices, mask, probability)
    return scores


def _rules(tested: SplitScores, baseline: BrightnessThreshold | None) -> dict[str, dict[str, float]]:
    """Metrics of the trivial rules on the test split, by their names."""
    true = tested.model.class_counts.sum(axis=1)
    codes = np.arange(len(true))
    tables = {
        **({} if baseline is None else {BRIGHTNESS: tested.brightness.class_counts}),
        **{name: np.outer(true, codes == code) for name, code in ((ALL_CLOUD, THICK_CLOUD), (ALL_CLEAR, CLEAR))},
    }
    return {name: table_metrics(table, tested.model.has_kinds) for name, table in tables.items()}


def _patch_table(store: PatchStore, scores: SegmentationScores) -> pd.DataFrame:
    """One row a test patch, most wrong pixels first: where it is from, share of wrong pixels, cloud cover, counts."""
    counts = scores.patch_counts
    pixels = np.maximum(counts.sum(axis=1), 1)
    rows = store.index.iloc[scores.indices]
    table = pd.DataFrame(
        {
            "patch_id": rows["patch_id"].to_numpy(),
            "group": rows["group"].to_numpy(),
            "wrong_percentage": 100 * (counts[:, 1] + counts[:, 2]) / pixels,
            "cloud_truth_percentage": 100 * (counts[:, 0] + counts[:, 2]) / pixels,
            "cloud_predicted_percentage": 100 * (counts[:, 0] + counts[:, 1]) / pixels,
            **dict(zip(COUNT_COLUMNS, counts.T, strict=True)),
            "store_row": scores.indices,
        }
    )
    return table.sort_values("wrong_percentage", ascending=False, ignore_index=True)


def _notes(tested: SplitScores, per_scene: pd.DataFrame, baseline: BrightnessThreshold | None) -> list[str]:
    notes = [
        "Cloud is thick and thin cloud together; shadow counts as clear. Nodata and unlabelled pixels are not scored.",
        *interval_note(per_scene, "iou"),
    ]
    if baseline is None:
        notes.append("There is no brightness baseline: the training patches do not hold both cloud and clear pixels.")
    else:
        bands = ", ".join(baseline.bands)
        notes.append(
            f"The trivial baseline calls cloud what has a mean reflectance of at least {baseline.value:.3f} "
            f"in {bands}, fitted on the training split."
        )
    absent = [name for name in tested.model.absent_classes() if tested.model.has_kinds]
    if absent:
        notes.append(f"Not in the truth of the test split, so without metrics: {', '.join(absent)}.")
    if tested.model.unpredicted:
        notes.append(f"{tested.model.unpredicted} labelled pixels without data were not scored.")
    return notes
