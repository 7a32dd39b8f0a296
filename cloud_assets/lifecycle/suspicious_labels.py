"""Suspicious labels: patches whose label a model contradicts with confidence, worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.reports.page import Page, Tile, figure_views, table_views
from cloud_assets.reports.report import Report

if TYPE_CHECKING:
    import pandas as pd

LIST = "suspicious_labels"
"""Name of the table."""
CAPTIONS = {
    LIST: "Most suspicious first. learnt_from: the model was trained on this very label, so its objection weighs "
    "more and its silence less.",
    "pictures": "The first of the list: picture, label, what the model says, and where it contradicts in solid areas.",
}


class SuspicionRecipe(BaseModel):
    """How many labels are looked at and shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    looked_at: int
    """Patches that were looked at."""
    learnt_from: int
    """How many of them the model was trained on."""

    @property
    def table(self) -> pd.DataFrame:
        """``patch_id``, ``suspicion`` (0 to 1, or standard deviations), ``learnt_from``, ``split``, ``source``."""
        return self.tables[LIST]

    def page(self) -> Page:
        """Counts, the first patches as pictures, and the list."""
        first = self.table.head(1)["suspicion"]
        return Page(
            title=f"{self.task} / suspicious labels",
            subtitle=f"Labels that model {self.model_version} confidently contradicts",
            tiles=[
                Tile("looked at", str(self.looked_at), f"{self.learnt_from} of them were learnt from"),
                Tile("listed", str(len(self.table)), f"all: tables/{LIST}.parquet"),
                *(
                    [Tile("highest suspicion", f"{float(first.iloc[0]):.2f}", "first of the list")]
                    if len(first)
                    else []
                ),
            ],
            notes=self.notes,
            figures=figure_views(self.figures, CAPTIONS),
            tables=table_views(self.tables, CAPTIONS),
        )
