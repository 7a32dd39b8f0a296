"""Suspicious labels: patches whose label a model contradicts with confidence, in the way of its family, worst first."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from cloud_assets.errors import InvalidModel, InvalidRecipe, NoUsablePatches
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.drift_reference import group_hash, reference_of
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import doubt_panels
from cloud_assets.reports.report import Page, Report, Tile, read_captions

if TYPE_CHECKING:
    import pandas as pd

LIST = "suspicious_labels"  # name of the table
CAPTIONS = read_captions(__package__, LIST)


class SuspicionRecipe(BaseModel, frozen=True, extra="forbid"):
    """How many labels are looked at and shown."""

    patches: int = Field(1000, ge=1, description="Most patches to look at; those not learnt from come first.")
    listed: int = Field(200, ge=1, description="Most patches in the list.")
    pictured: int = Field(10, ge=0, le=40, description="Patches that the figure shows.")


@dataclass(frozen=True, kw_only=True)
class SuspiciousLabels(Report):
    """Patches whose labels should be looked at again.

    ``tables/suspicious_labels.parquet`` is the list, ``figures/pictures.png`` its first patches.
    """

    file: ClassVar[str] = "labels.json"

    task: str
    model_version: str
    patches_version: str
    looked_at: int  # patches that were looked at
    learnt_from: int  # how many of them the model was trained on

    @property
    def table(self) -> "pd.DataFrame":
        """``patch_id``, ``suspicion`` (0 to 1, or standard deviations), ``learnt_from``, ``split``, ``source``."""
        return self.tables[LIST]

    def page(self) -> Page:
        """Counts, the first patches as pictures, and the list."""
        highest = [f"{suspicion:.2f}" for suspicion in self.table["suspicion"].head(1)]
        return Page(
            title=f"{self.task} / suspicious labels",
            subtitle=f"Labels that model {self.model_version} confidently contradicts",
            tiles=[
                Tile("looked at", str(self.looked_at), f"{self.learnt_from} of them were learnt from"),
                Tile("listed", str(len(self.table)), f"all: tables/{LIST}.parquet"),
                *(Tile("highest suspicion", value, "first of the list") for value in highest),
            ],
            tables=self.tables,
            captions=CAPTIONS,
        )


def suspicious_labels(
    bundle: ModelBundle, store: PatchStore, splits: Splits, recipe: SuspicionRecipe, *, progress: bool = True
) -> SuspiciousLabels:
    """Ranks patches by how confidently a model contradicts their labels.

    Masks and coverage classes are doubted by confident learning; labels of whole pictures by how far an anomaly score
    is on the wrong side of the threshold; pairs, whose label is the other picture, by how badly the model reproduces it
    compared with the other pairs (a cloud or a shift in the optical picture does that).

    Raises:
        NoUsablePatches: If no patch has a label.
        InvalidRecipe: If the model's family has no way to find suspicious labels.
    """
    card = bundle.card
    learnt, certain = _learnt_from(bundle, store, splits)
    family = family_of(bundle)
    labelled = family.labelled_rows(store)
    if not len(labelled):
        raise NoUsablePatches(f"{card.task}: no patch of {store.directory} has a label to doubt: look at its masks.")
    order = labelled[np.argsort(learnt[labelled], kind="stable")]
    rows = np.sort(order[: recipe.patches])
    doubts = family.doubts(family.predictor(bundle), store, rows, progress)
    if doubts is None:
        raise InvalidRecipe(f"{card.task}: {family.name} models tell no suspicious labels: leave this asset out.")
    table = _described(doubts.table, store, splits, learnt).head(recipe.listed)
    shown = table["store_row"].head(recipe.pictured).tolist()
    figures = {"pictures": doubt_panels([doubts.picture(int(row)) for row in shown])} if shown else {}
    learnt_count = int(learnt[rows].sum())
    notes = [
        f"The model was trained on {learnt_count} of the {len(rows)} patches looked at. What it says about "
        "the others is out of sample; where it learnt the label itself, a contradiction weighs more and agreement less."
    ]
    if not certain:
        notes.append("The model was trained with other patches or splits: groups that it knew count as learnt from.")
    if len(rows) < len(labelled):
        notes.append(f"{len(labelled) - len(rows)} labelled patches were not looked at (patches: {recipe.patches}).")
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


def _described(
    found: "pd.DataFrame", store: PatchStore, splits: Splits, learnt: npt.NDArray[np.bool_]
) -> "pd.DataFrame":
    """The list with all that a labelling team needs to find the patch; unsuspected patches are left out."""
    rows = found["store_row"].to_numpy(dtype=np.int64)
    index = store.index.iloc[rows].rename(columns={"col": "column"})
    table = found.assign(
        **{name: index[name].to_numpy() for name in ("patch_id", "group", "row", "column", "source")},
        split=splits.table.set_index("position")["split"].reindex(rows, fill_value="").to_numpy(),
        learnt_from=learnt[rows],
    )
    first = ["patch_id", "suspicion"]
    last = ["split", "learnt_from", "group", "row", "column", "source", "store_row"]
    middle = [name for name in found.columns if name not in (*first, *last)]
    ranked = table[table["suspicion"] > 0].sort_values(["suspicion", "patch_id"], ascending=[False, True])
    return ranked[[*first, *middle, *last]].reset_index(drop=True)
