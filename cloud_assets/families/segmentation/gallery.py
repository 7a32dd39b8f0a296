"""Selection of the figures and patches of a segmentation report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cloud_assets.bands import CLASS_NAMES
from cloud_assets.families.segmentation.figures import Example, class_names, patch_panels
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.bars import scene_bars
from cloud_assets.reports.composites import FALSE_COLOUR, STRETCH_NOTE, TRUE_COLOUR, composite
from cloud_assets.reports.confusion_counts import scene_table
from cloud_assets.reports.confusion_figure import confusion_figure
from cloud_assets.reports.curves import (
    cloud_cover_figure,
    precision_recall_figure,
    reliability_figure,
)
from cloud_assets.reports.predictions import predict_patches

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.families.segmentation.evaluation import SegmentationEvaluation
    from cloud_assets.families.segmentation.metrics import SegmentationScores
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import PatchStore

CAPTIONS = {
    "worst_patches": "The test patches with the most wrong pixels. Errors: cloud against clear; white has no label or "
    f"no data; {STRETCH_NOTE}.",
    "typical_patches": "Test patches around the middle of the ranking by wrong pixels; " + STRETCH_NOTE + ".",
    "scenes": "IoU of each scene, worst first, with its true cloud cover.",
    "confusion_matrix": "Test pixels by true and predicted class; colour is the share of the true class.",
    "precision_recall": "Cloud against clear on the test split, over all thresholds of the cloud probability.",
    "reliability": "Whether stated probabilities can be believed (left), and how often each is stated (right).",
    "cloud_cover": "Each point is a test patch.",
    "per_scene": "Test scenes, worst IoU first. No IoU means: neither true nor predicted cloud.",
    "per_patch": "Test patches, most wrong pixels first.",
    "baselines": "Rules without any learning, on the same test pixels.",
    "official_scenes": "The official score of 38-Cloud, scene by scene; absent patches were blank and count as clear.",
}


def segmentation_figures(
    recipe: SegmentationEvaluation,
    predictor: Predictor,
    store: PatchStore,
    scores: SegmentationScores,
    per_patch: pd.DataFrame,
    baselines: Mapping[str, Mapping[str, float]],
) -> dict[str, bytes | None]:
    """Draws all figures of a report.

    Args:
        recipe: How many patches to show.
        predictor: The model, to predict the shown patches once more.
        store: The patches.
        scores: The model's on the test split.
        per_patch: Table of the test patches, most wrong pixels first.
        baselines: Metrics of the trivial rules, by name.

    Returns:
        PNG images by name; None for those that the data do not allow.
    """
    has_kinds = scores.has_kinds
    true_codes = [code for code in CLASS_NAMES if scores.class_counts[code].sum()]
    names = class_names(has_kinds, true_codes)
    worst = per_patch.head(recipe.worst_patches)
    middle = max(0, (len(per_patch) - recipe.typical_patches) // 2)
    typical = per_patch.iloc[middle : middle + recipe.typical_patches] if len(per_patch) > len(worst) else None
    predicted = class_names(has_kinds)
    table = scores.class_counts[np.ix_(true_codes, list(predicted))]
    scenes = scene_table(store.index["group"].iloc[scores.indices].tolist(), scores.patch_counts)
    return {
        "worst_patches": patch_panels(_examples(predictor, store, worst), names),
        "scenes": scene_bars(scenes),
        "confusion_matrix": confusion_figure(table, [names[code] for code in true_codes], list(predicted.values())),
        "precision_recall": _precision_recall(predictor, scores, baselines),
        "cloud_cover": cloud_cover_figure(
            per_patch["cloud_truth_percentage"].to_numpy(), per_patch["cloud_predicted_percentage"].to_numpy()
        ),
        "reliability": reliability_figure(scores.histogram),
        "typical_patches": None if typical is None else patch_panels(_examples(predictor, store, typical), names),
    }


def _precision_recall(
    predictor: Predictor, model: SegmentationScores, baselines: Mapping[str, Mapping[str, float]]
) -> bytes | None:
    metrics = model.metrics()
    threshold = predictor.card.threshold
    chosen = "" if threshold is None else f" at threshold {threshold.value:.3g}"
    points = {
        name: (values["recall"], values["precision"])
        for name, values in baselines.items()
        if "recall" in values and "precision" in values
    }
    decided = (metrics.get("recall", np.nan), metrics.get("precision", np.nan), f"decision{chosen}")
    return precision_recall_figure(model.histogram, decided, points)


def _examples(predictor: Predictor, store: PatchStore, rows: pd.DataFrame) -> list[Example]:
    indices = rows["store_row"].to_numpy(dtype=np.int64)
    role = store.roles[IMAGES]
    examples = []
    batches = predict_patches(predictor, store, indices, batch_size=1, title="Drawing", progress=False)
    for batch, row in zip(batches, rows.to_dict("records"), strict=True):
        pictures = {
            "true colour": composite(batch.images[0], role, TRUE_COLOUR),
            "NIR, red, green": composite(batch.images[0], role, FALSE_COLOUR),
        }
        title = (
            f"{row['patch_id']}: {row['wrong_percentage']:.1f} % wrong; "
            f"cloud {row['cloud_truth_percentage']:.1f} % true, {row['cloud_predicted_percentage']:.1f} % predicted"
        )
        examples.append(
            Example(
                title=title,
                pictures={heading: picture for heading, picture in pictures.items() if picture is not None},
                truth=store.masks[batch.indices[0]],
                mask=batch.answer["mask"][0],
                cloud_probability=batch.answer["cloud_probability"][0],
            )
        )
    return examples
