"""Figures of a segmentation report: masks beside their truth, confusion between classes, curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from cloud_assets.bands import CLASS_NAMES, CLEAR, THICK_CLOUD, UNLABELLED, cloudy
from cloud_assets.families.segmentation.metrics import SegmentationScores
from cloud_assets.families.segmentation.recipe import SegmentationEvaluation
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports import figures
from cloud_assets.reports.predictions import predict_patches
from cloud_assets.reports.report import read_captions
from cloud_assets.reports.statistics import scene_table

_PROBABILITY_COLOURS = "cividis"


@dataclass(frozen=True)
class Example:
    """A patch with what the model made of it."""

    title: str  # one line: which scene, how good
    pictures: Mapping[str, figures.Picture]  # colour pictures (H, W, 3) by their heading
    truth: npt.NDArray[np.uint8]  # (H, W) cloud codes, 255 unlabelled
    mask: npt.NDArray[np.uint8]  # (H, W) predicted cloud codes, 255 nodata
    cloud_probability: npt.NDArray[np.float32]  # (H, W) in [0, 1]


def class_names(has_kinds: bool, true_codes: Sequence[int] = ()) -> dict[int, str]:
    """Clear and cloud by code, or all four classes if the model tells kinds apart or the true codes hold some."""
    if has_kinds or set(true_codes) - {CLEAR, THICK_CLOUD, UNLABELLED}:
        return dict(CLASS_NAMES)
    return {CLEAR: "clear", THICK_CLOUD: "cloud"}


def patch_panels(examples: Sequence[Example], names: Mapping[int, str]) -> bytes:
    """PNG with one row a patch: pictures, truth, prediction, errors, cloud probability."""
    columns = len(examples[0].pictures) + 4
    side = figures.WIDTH / columns
    with figures.figure_style():
        figure = Figure(figsize=(figures.WIDTH, (side + 0.62) * len(examples) + 0.75))
        heights = [side + 0.62] * len(examples) + [0.75]
        rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
        for row, example in zip(rows[:-1], examples, strict=True):
            _panel_row(row, example, columns)
        _legends(rows[-1], examples, names)
        return figures.png(figure)


def _panel_row(row: SubFigure, example: Example, columns: int) -> None:
    row.suptitle(example.title, x=0.008, ha="left", fontsize=10.5, fontweight="bold")
    shown: dict[str, npt.NDArray[Any]] = {
        **example.pictures,
        "truth": figures.painted(example.truth, {**CLASS_NAMES, UNLABELLED: "unlabelled"}, figures.CLASS_COLOURS),
        "prediction": figures.painted(example.mask, {**CLASS_NAMES, UNLABELLED: "unlabelled"}, figures.CLASS_COLOURS),
        "errors": outcome_map(example.truth, example.mask),
        "cloud probability": np.where(example.mask == UNLABELLED, np.nan, example.cloud_probability),
    }
    for axes, (heading, picture) in zip(row.subplots(1, columns), shown.items(), strict=True):
        figures.without_ticks(axes, framed=True)
        axes.set_title(heading, fontsize=10)
        axes.imshow(picture, cmap=_PROBABILITY_COLOURS, vmin=0, vmax=1)


def outcome_map(truth: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Where cloud was found, falsely found and missed, from cloud codes: (H, W, 3) :data:`figures.OUTCOME_COLOURS`."""
    is_cloud, found = cloudy(truth), cloudy(mask)
    outcome = np.where(is_cloud, np.where(found, 0, 3), np.where(found, 2, 1))
    outcome = np.where((truth == UNLABELLED) | (mask == UNLABELLED), 4, outcome)
    return figures.painted(outcome.astype(np.uint8), dict(enumerate(figures.OUTCOME_COLOURS)), figures.OUTCOME_COLOURS)


def _legends(row: SubFigure, examples: Sequence[Example], names: Mapping[int, str]) -> None:
    shown = {int(code) for example in examples for code in (*np.unique(example.truth), *np.unique(example.mask))}
    classes = {name: figures.CLASS_COLOURS[name] for code, name in names.items() if code in shown}
    if UNLABELLED in shown:
        classes["unlabelled"] = figures.CLASS_COLOURS["unlabelled"]
    outcomes = {
        name: colour for name, colour in figures.OUTCOME_COLOURS.items() if name != "not scored" or UNLABELLED in shown
    }
    for position, (title, colours) in enumerate({"classes": classes, "errors": outcomes}.items()):
        legend = row.legend(
            handles=[
                Patch(facecolor=colour, edgecolor=figures.BASELINE_COLOUR, label=name)
                for name, colour in colours.items()
            ],
            title=title,
            ncols=3,
            loc="upper left",
            bbox_to_anchor=(0.4 * position, 1.0),
            alignment="left",
            fontsize=9,
        )
        legend.get_title().set_fontweight("bold")
    axes = row.add_axes((0.83, 0.42, 0.15, 0.16))
    bar = row.colorbar(ScalarMappable(cmap=_PROBABILITY_COLOURS), cax=axes, orientation="horizontal")
    bar.set_ticks([0, 0.5, 1])
    bar.ax.tick_params(labelsize=9)
    axes.set_title("cloud probability", fontsize=9, fontweight="bold", loc="left")


CAPTIONS = read_captions(__package__, stretch=figures.STRETCH_NOTE)


def segmentation_figures(
    recipe: SegmentationEvaluation,
    predictor: Predictor,
    store: PatchStore,
    scores: SegmentationScores,
    per_patch: pd.DataFrame,
    baselines: Mapping[str, Mapping[str, float]],
) -> dict[str, bytes | None]:
    """Draws all figures of a report as PNG; None for those that the data do not allow.

    ``per_patch`` is the table of test patches, most wrong pixels first; ``baselines`` are metrics of rules by name.
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
        "scenes": figures.scene_bars(scenes),
        "confusion_matrix": figures.confusion_figure(
            table, [names[code] for code in true_codes], list(predicted.values())
        ),
        "precision_recall": _precision_recall(predictor, scores, baselines),
        "cloud_cover": figures.cloud_cover_figure(
            per_patch["cloud_truth_percentage"].to_numpy(), per_patch["cloud_predicted_percentage"].to_numpy()
        ),
        "reliability": figures.reliability_figure(scores.histogram),
        "typical_patches": None if typical is None else patch_panels(_examples(predictor, store, typical), names),
    }


def disagreement_panels(predictors: Mapping[str, Predictor], store: PatchStore, rows: Sequence[pd.DataFrame]) -> bytes:
    """Patches of several models, by name, below each other; ``rows`` are each model's rows of the table of patches."""
    shown = [
        [replace(example, title=f"{name}: {example.title}") for example in _examples(predictor, store, chosen)]
        for (name, predictor), chosen in zip(predictors.items(), rows, strict=True)
    ]
    codes = [int(code) for example in shown[0] for code in np.unique(example.truth)]
    names = class_names(any(len(predictor.card.classes) > 2 for predictor in predictors.values()), codes)
    return patch_panels([example for patch in zip(*shown, strict=True) for example in patch], names)


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
    return figures.precision_recall_figure(model.histogram, decided, points)


def _examples(predictor: Predictor, store: PatchStore, rows: pd.DataFrame) -> list[Example]:
    indices = rows["store_row"].to_numpy(dtype=np.int64)
    role = store.roles[IMAGES]
    examples = []
    batches = predict_patches(predictor, store, indices, batch_size=1, title="Drawing", progress=False)
    for batch, row in zip(batches, rows.to_dict("records"), strict=True):
        title = (
            f"{row['patch_id']}: {row['wrong_percentage']:.1f} % wrong; "
            f"cloud {row['cloud_truth_percentage']:.1f} % true, {row['cloud_predicted_percentage']:.1f} % predicted"
        )
        examples.append(
            Example(
                title=title,
                pictures=figures.composites(batch.images[0], role),
                truth=store.masks[batch.indices[0]],
                mask=batch.answer["mask"][0],
                cloud_probability=batch.answer["cloud_probability"][0],
            )
        )
    return examples
