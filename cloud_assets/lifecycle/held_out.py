"""Test scenes that a model was not trained on, when splits have changed since."""

from typing import TYPE_CHECKING

from cloud_assets.patches.splits import Splits

if TYPE_CHECKING:
    from cloud_assets.tracking import RegisteredVersion, Tracker

SEEN_FILE = "seen_groups.json"
"""Artifact of a training's MLflow run: the groups whose patches it learnt from or was tuned on."""
_FEWEST = 2


def seen_groups(splits: Splits) -> list[str]:
    """The groups of the training and validation patches."""
    learnt = splits.table["split"].isin(["train", "validation"])
    return sorted(str(group) for group in splits.table.loc[learnt, "group"].unique())


def held_out_test(splits: Splits, version: "RegisteredVersion", tracker: "Tracker") -> tuple[Splits, str]:
    """The splits without those test groups that a registered model has seen.

    Returns:
        The splits to judge the model on, and a sentence if some test groups had to be left out, or could not be.

    Raises:
        TrackingUnavailable: If MLflow is away.
    """
    noted = tracker.noted(version.run_id, SEEN_FILE)
    seen = set() if noted is None else set(noted["groups"])
    table = splits.table
    is_test = table["split"] == "test"
    known = is_test & table["group"].astype(str).isin(seen)
    total, known_groups = table.loc[is_test, "group"].nunique(), table.loc[known, "group"].nunique()
    if not known_groups:
        return splits, ""
    if total - known_groups < _FEWEST:
        return splits, f"The champion was trained on {known_groups} of the {total} test scenes, which flatters it."
    said = f"Judged on the {total - known_groups} of {total} test scenes that the champion was not trained on."
    return Splits(table[~known].reset_index(drop=True), splits.details), said
