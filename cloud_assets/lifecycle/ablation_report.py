"""The report of an ablation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud_assets.reports.formatting import format_number
from cloud_assets.reports.page import SYNTHETIC_BANNER, Page, Tile, figure_views, table_views

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.lifecycle.ablation_result import Ablation

_SHORT = (
    "iou",
    "precision",
    "recall",
    "recall_thin",
    "recall_thick",
    "recall_edge",
    "recall_inside",
    "false_on_bright_ground",
)


def ablation_page(ablation: Ablation) -> Page:
    """Lays out an ablation."""
    summary = ablation.tables["summary"]
    tables = {
        "on_the_test_split": side_by_side(summary, "test"),
        "on_hardened_validation": side_by_side(summary, "hardened"),
        "on_the_validation_split": side_by_side(summary, "validation"),
    }
    if "curve" in ablation.tables:
        tables["learning_curve"] = side_by_side(ablation.tables["curve"], "all")
    return Page(
        title=f"{ablation.task} / ablation",
        subtitle=f"What each ingredient of {ablation.variant}'s recipe is worth, {ablation.created}",
        banner=SYNTHETIC_BANNER if ablation.is_synthetic else "",
        tiles=[
            Tile(str(line["row"]), format_number(float(line["test_iou"])), "test IoU")
            for line in summary.to_dict("records")
        ],
        notes=ablation.notes,
        figures=figure_views(ablation.figures, ablation.captions),
        tables=table_views({**tables, "trainings": ablation.tables["trainings"]}, ablation.captions),
        facts={
            "Ablation": {name: str(value) for name, value in ablation.recipe.items()},
            "Versions": {"patches": ablation.patches_version, "splits": ablation.splits_version},
        },
        commands=[f"dagster job execute -m cloud_assets.definitions -j {ablation.task}_ablation"],
    )


def side_by_side(summary: pd.DataFrame, name: str) -> pd.DataFrame:
    """One set's metrics as text, mean ± spread.

    Args:
        summary: The table ``summary`` or ``curve``.
        name: The set, for example ``test``.
    """
    import pandas as pd

    key = str(summary.columns[0])
    lines = []
    for line in summary.to_dict("records"):
        text: dict[str, str] = {key: format_number(line[key])}
        for metric in _SHORT:
            value, spread = line.get(f"{name}_{metric}"), line.get(f"{name}_{metric}_spread")
            if f"{name}_{metric}" not in summary:
                continue
            shown = "–" if value is None or value != value else f"{value:.3f}"
            text[metric] = shown if spread is None or spread != spread else f"{shown} ± {spread:.3f}"
        lines.append(text)
    return pd.DataFrame(lines)
