"""Finds suspicious labels, those that a model contradicts, in the way of the model's family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidModel, InvalidRecipe, NoUsablePatches
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.drift_reference import group_hash, reference_of
from cloud_assets.lifecycle.suspicious_labels import LIST, SuspicionRecipe, SuspiciousLabels
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import doubt_panels

if TYPE_CHECKING:
    import pandas as pd


def suspicious_labels(
    bundle: ModelBundle, store: PatchStore, splits: Splits, recipe: SuspicionRecipe, *, progress: bool = True
) -> SuspiciousLabels:
    """Ranks patches by how confidently a model contradicts their labels.

    Masks and coverage classes are doubted by confident learning; labels of whole pictures by how far an anomaly score
    is on the wrong side of the threshold; pairs, whose label is the other picture, by how badly the model reproduces it
    compared with the other pairs (a cloud or a shift in the optical picture does that).

    Args:
        bundle: The model.
        store: Labelled patches.
        splits: Their splits: they tell which patches the model has learnt from, if it was trained with these.
        recipe: How many.
        progress: Whether to show a progress bar.

    Returns:
        The list.

    Raises:
        NoUsablePatches: If no patch has a label.
        InvalidRecipe: If the model's family has no way to find suspicious labels.
    """
    card = bundle.card
    learnt, certain = _learnt_from(bundle, store, splits)
    family = family_of(bundle)
    labelled = family.labelled_rows(store)
    if not len(labelled):
        raise NoUsablePatches(f"{card.task}: no patch of {store.directory} has a label to doubt.")
    order = labelled[np.argsort(learnt[labelled], kind="stable")]
    rows = np.sort(order[: recipe.patches])
    doubts = family.doubts(family.predictor(bundle), store, rows, progress)
    if doubts is None:
        raise InvalidRecipe(f"{card.task}: models of the family {family.name} cannot tell suspicious labels.")
    table = _described(doubts.table, store, splits, learnt).head(recipe.listed)
    shown = table["store_row"].head(recipe.pictured).tolist()
    figures = {"pictures": doubt_panels([doubts.picture(int(row)) for row in shown])} if shown else {}
    notes = [
        f"The model was trained on {int(learnt[rows].sum())} of the {len(rows)} patches looked at. What it says about "
        "the others is out of sample; where it learnt the label itself, a contradiction weighs more and agreement less."
    ]
    if not certain:
        notes.append("The model was trained with other patches or splits: groups that it knew count as learnt from.")
    if len(rows) < len(labelled):
        notes.append(f"{len(labelled) - len(rows)} labelled patches were not looked at (patches: {recipe.patches}).")
    learnt_count = int(learnt[rows].sum())
    return SuspiciousLabels(
        task=card.task,
        model_version=bundle.version,
        patches_version=store.data_version,
        looked_at=len(rows),
        learnt_from=learnt_count,
        tables={LIST: table},
        figures=figures,
        notes=notes,
    )


def _learnt_from(bundle: ModelBundle, store: PatchStore, splits: Splits) -> tuple[npt.NDArray[np.bool_], bool]:
    """(N,) which patches the model was trained on, and whether that is known for certain."""
    training = bundle.card.training
    learnt = np.zeros(len(store), bool)
    if (training.patches_version, training.splits_version) == (store.data_version, splits.data_version):
        learnt[splits.indices("train")] = True
        return learnt, True
    try:
        known = reference_of(bundle.card).known_groups
    except InvalidModel:
        return ~learnt, False
    return store.index["group"].astype(str).map(group_hash).isin(known).to_numpy(dtype=bool), False


def _described(found: pd.DataFrame, store: PatchStore, splits: Splits, learnt: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """The list with all that a labelling team needs to find the patch; unsuspected patches are left out."""
    rows = found["store_row"].to_numpy(dtype=np.int64)
    place = dict(zip(splits.table["position"].tolist(), splits.table["split"].tolist(), strict=True))
    index = store.index.iloc[rows]
    table = found.assign(
        patch_id=index["patch_id"].to_numpy(),
        group=index["group"].to_numpy(),
        split=[place.get(int(row), "") for row in rows],
        learnt_from=learnt[rows],
        row=index["row"].to_numpy(),
        column=index["col"].to_numpy(),
        source=index["source"].to_numpy(),
    )
    first = ["patch_id", "suspicion"]
    last = ["split", "learnt_from", "group", "row", "column", "source", "store_row"]
    middle = [name for name in found.columns if name not in (*first, *last)]
    ranked = table[table["suspicion"] > 0].sort_values(["suspicion", "patch_id"], ascending=[False, True])
    return ranked[[*first, *middle, *last]].reset_index(drop=True)
