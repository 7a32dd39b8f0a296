"""Tables, figures and notes of a coverage classifier's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.families.classification.coverage_labels import CoverageClasses, Windows
from cloud_assets.families.classification.figures import (
    Mistake,
    confidence_figure,
    cover_figure,
    mistakes_figure,
    roc_figure,
)
from cloud_assets.families.classification.metrics import Answers, confusion_counts
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.composites import STRETCH_NOTE, TRUE_COLOUR, composite
from cloud_assets.reports.confusion_figure import confusion_figure
from cloud_assets.reports.evaluate import interval_note

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.families.classification.evaluation import ClassificationEvaluation
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore

CAPTIONS = {
    "confusion_matrix": "Test samples by true and predicted class; colour is the share of the true class.",
    "cloud_cover": "Each point is a test sample; how far a mistake lies from its grey band is how wrong it is.",
    "mistakes": f"The most confident mistakes, each with its own true cloud cover; {STRETCH_NOTE}.",
    "roc": "Each class against the rest, over all thresholds of its probability.",
    "confidence": "Whether stated confidence can be believed (left), and how often it is stated (right).",
    "baselines": "Rules without a classifier, on the same test samples.",
    "per_class": "Test samples of each class.",
    "per_scene": "Test scenes, lowest accuracy first.",
    "per_sample": "Test samples, the most confident mistakes first.",
}


@dataclass(frozen=True)
class Scored:
    """Samples of a split that the model answered."""

    windows: Windows
    answers: Answers
    refused: int
    """Samples that the model refused."""


def sample_table(store: PatchStore, tested: Scored, classes: CoverageClasses) -> pd.DataFrame:
    """One row a sample, mistakes before right answers, the surest first."""
    import pandas as pd

    windows, answers = tested.windows, tested.answers
    names = np.array(classes.names)
    index = store.index.iloc[windows.rows]
    probability = answers.probability if answers.probability is not None else np.zeros((len(answers), len(names)))
    table = pd.DataFrame(
        {
            "patch_id": index["patch_id"].to_numpy(),
            "group": index["group"].to_numpy(),
            "row": windows.tops,
            "col": windows.lefts,
            "height": windows.heights,
            "width": windows.widths,
            "cloud_percentage": windows.percentages,
            "true_class": names[answers.truth],
            "predicted_class": names[answers.predicted],
            "confidence": np.take_along_axis(probability, answers.predicted[:, None], axis=1)[:, 0],
            "class_error": abs(answers.truth - answers.predicted),
            "sample": np.arange(len(answers)),
        }
    )
    wrong = table["class_error"] > 0
    order = np.lexsort([-table["confidence"], ~wrong])
    return table.iloc[order].reset_index(drop=True)


def scene_table(samples: pd.DataFrame) -> pd.DataFrame:
    """One row a scene: ``group``, ``samples``, ``accuracy``, ``mean_absolute_class_error``, ``cloud_percentage``."""
    grouped = samples.assign(accuracy=samples["class_error"] == 0).groupby("group")
    table = grouped.agg(
        samples=("accuracy", "size"),
        accuracy=("accuracy", "mean"),
        mean_absolute_class_error=("class_error", "mean"),
        cloud_percentage=("cloud_percentage", "mean"),
    )
    return table.reset_index().sort_values("accuracy", ignore_index=True)


def classification_figures(
    recipe: ClassificationEvaluation,
    store: PatchStore,
    tested: Scored,
    samples: pd.DataFrame,
    classes: CoverageClasses,
) -> dict[str, bytes | None]:
    """PNG images by name; None for those that the data do not allow."""
    names = classes.names
    # Windows of one patch resemble each other: two of them tell enough.
    wrong = samples[samples["class_error"] > 0].groupby("patch_id", sort=False).head(2).head(recipe.mistakes)
    shown = [_mistake(store, tested, row) for row in wrong.to_dict("records")]
    counts = confusion_counts(tested.answers, len(names))
    return {
        "confusion_matrix": confusion_figure(counts, names, names, unit="samples"),
        "cloud_cover": cover_figure(tested.windows.percentages, tested.answers, names, classes.boundaries),
        "mistakes": mistakes_figure([mistake for mistake in shown if mistake is not None]),
        "roc": roc_figure(tested.answers, names),
        "confidence": confidence_figure(tested.answers, recipe.calibration_bins),
    }


def _mistake(store: PatchStore, tested: Scored, row: Mapping[Any, Any]) -> Mistake | None:
    image = tested.windows.read(store, int(row["sample"]), IMAGES)
    picture = composite(image, store.roles[IMAGES], TRUE_COLOUR)
    if picture is None:
        return None
    return Mistake(
        picture,
        str(row["patch_id"]),
        float(row["cloud_percentage"]),
        str(row["true_class"]),
        str(row["predicted_class"]),
        float(row["confidence"]),
    )


def classification_notes(splits: Splits, tested: Scored, classes: CoverageClasses, scenes: pd.DataFrame) -> list[str]:
    """What a reader of the numbers has to know about the samples."""
    patches = len(splits.indices("test"))
    notes = [
        "Cloud cover is thick and thin cloud over the labelled pixels of a sample; classes: "
        + ", ".join(classes.describe()) + "."
    ]  # fmt: skip
    if len(tested.answers) > patches:
        notes.append(
            f"The {patches} test patches are supplemented with random windows to {len(tested.answers)} samples, all "
            "classes alike. Windows of one patch resemble each other: the interval below counts scenes, not samples."
        )
    notes += interval_note(scenes, "accuracy")
    counts: npt.NDArray[np.int64] = tested.windows.class_counts(len(classes.names))
    absent = [name for name, count in zip(classes.names, counts, strict=True) if count == 0]
    if absent:
        notes.append(f"Not in the test split, so without metrics: {', '.join(absent)}.")
    refused = tested.refused + tested.windows.refused
    if refused:
        notes.append(f"{refused} samples with too few valid or labelled pixels were refused.")
    return notes
