"""The list that a labelling team wants: patches whose label a confident model contradicts, worst first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.contents import read_figures, read_tables, write_figures, write_tables
from cloud_assets.reports.page import Page, Tile, figure_views, render, table_views
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
_TABLE = "suspicious_labels"
CAPTIONS = {
    _TABLE: "Most suspicious first. learnt_from: the model was trained on this very label, so its objection weighs "
    "more and its silence less.",
    "pictures": "The first of the list: picture, label, what the model says, and where it contradicts in solid areas.",
}


class SuspicionRecipe(BaseModel):
    """How many labels are looked at and shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patches: int = Field(1000, ge=1, description="Most patches to look at; those not learnt from come first.")
    listed: int = Field(200, ge=1, description="Most patches in the list.")
    pictured: int = Field(10, ge=0, le=40, description="Patches that the figure shows.")


@dataclass(frozen=True)
class SuspiciousLabels:
    """Patches whose labels should be looked at again.

    Saved as a folder: ``tables/suspicious_labels.csv`` is the list, ``figures/pictures.png`` its first patches,
    ``report.html`` both, ``labels.json`` everything else.
    """

    task: str
    model_version: str
    patches_version: str
    looked_at: int
    """Patches that were looked at."""
    learnt_from: int
    """How many of them the model was trained on."""
    table: pd.DataFrame
    """``patch_id``, ``suspicion`` (0 to 1, or standard deviations), ``learnt_from``, ``split``, ``source``, …"""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def data_version(self) -> str:
        """Changes with the model, the patches, and the list."""
        listed = self.table[["patch_id", "suspicion"]].to_csv(index=False, float_format="%.6f")
        return hashlib.blake2b(f"{self.model_version} {listed}".encode(), digest_size=16).hexdigest()

    def save(self, directory: Path) -> None:
        """Writes the folder, which is replaced as a whole."""
        with atomic_directory(directory) as folder:
            content = {
                "schema_version": SCHEMA_VERSION,
                "task": self.task,
                "model_version": self.model_version,
                "patches_version": self.patches_version,
                "looked_at": self.looked_at,
                "learnt_from": self.learnt_from,
                "notes": list(self.notes),
                "tables": write_tables({_TABLE: self.table}, folder / "tables"),
                "figures": write_figures(self.figures, folder / "figures"),
            }
            (folder / "labels.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (folder / "report.html").write_text(render(_page(self)), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> SuspiciousLabels:
        """Reads what :meth:`save` wrote.

        Raises:
            InvalidReport: If the folder holds none, half of one, or one of another schema version.
        """
        try:
            content = json.loads((directory / "labels.json").read_text(encoding="utf-8"))
            if content.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError("it has another schema version")
            table = read_tables(content.pop("tables"), directory / "tables")[_TABLE]
            figures = read_figures(content.pop("figures"), directory / "figures")
            return cls(table=table, figures=figures, **content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidReport(
                f"{directory} holds no list of suspicious labels that this version can read ({error}). Materialise it "
                "again."
            ) from error


def _page(labels: SuspiciousLabels) -> Page:
    first = labels.table.head(1)["suspicion"]
    return Page(
        title=f"{labels.task} / suspicious labels",
        subtitle=f"Labels that model {labels.model_version} confidently contradicts",
        tiles=[
            Tile("looked at", str(labels.looked_at), f"{labels.learnt_from} of them were learnt from"),
            Tile("listed", str(len(labels.table)), "all: tables/suspicious_labels.csv"),
            *([Tile("highest suspicion", f"{float(first.iloc[0]):.2f}", "first of the list")] if len(first) else []),
        ],
        notes=labels.notes,
        figures=figure_views(labels.figures, CAPTIONS),
        tables=table_views({_TABLE: labels.table}, CAPTIONS),
    )
