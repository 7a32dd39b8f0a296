"""The summary that a job prints at its end: metrics, report, how to open the user interfaces."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from rich.console import Console
from rich.table import Table

from cloud_assets.orchestration.common.io_manager import is_local
from cloud_assets.reports.comparison import Comparison

if TYPE_CHECKING:
    from cloud_assets.lifecycle.promotion import PromotionRecord

_SHOWN_METRICS = 5
CHAMPION_STEP = "__champion"


@dg.success_hook(required_resource_keys={"folders", "tracking"})
def summary_after_champion(context: dg.HookContext) -> None:
    """Prints the summary of a task once its champion is decided."""
    task, found, _ = context.op.name.partition(CHAMPION_STEP)
    results = context.resources.folders.results
    if not found or not is_local(results):
        return
    from cloud_assets.lifecycle.promotion import Champion

    folder = Path(results.path) / task
    record = Champion.open(folder / "champion").record
    how = context.resources.tracking.tracker().how_to_look()
    print_summary(Console(), Comparison.open(folder / "comparison"), record, folder, how)


def print_summary(
    console: Console, comparison: Comparison, record: "PromotionRecord", folder: Path, mlflow_ui: str
) -> None:
    """Prints a task's summary.

    Args:
        console: Where to.
        comparison: The variants' metrics.
        record: The decision on the champion.
        folder: The task's folder of results.
        mlflow_ui: Address of the MLflow UI, or the command that starts it.
    """
    names = [str(name) for name in comparison.table.columns if name not in ("name", "kind")][:_SHOWN_METRICS]
    table = Table("", *names, title=f"{comparison.task}: test split", title_justify="left")
    for row in comparison.table.to_dict("records"):
        values = [f"{row[name]:.4f}" if row[name] == row[name] else "" for name in names]
        mark = " ★" if row["name"] == record.variant and row["kind"] == "variant" else ""
        table.add_row(f"{row['name']}{mark}", *values, style=None if row["kind"] == "variant" else "dim")
    console.print(table)
    if comparison.is_synthetic:
        console.print("The test images are simulated: these numbers say nothing about real imagery.", style="yellow")
    report = folder / f"{record.challenger_variant}_report" / "report.html"
    home = "" if "DAGSTER_HOME" in os.environ else "  (in this folder: dagster.yaml keeps its runs in .dagster/)"
    lines = [
        f"★ champion  models:/{comparison.task}@champion, version {record.version}",
        f"            {record.reason}",
        f"report      {report}",
        f"model       {folder / 'champion' / 'model'}",
        f"Dagster UI  dg dev{home}",
        f"MLflow UI   {mlflow_ui}",
    ]
    for line in lines:
        # Never wrapped or cut: paths and commands are there to be copied.
        console.print(line, soft_wrap=True, markup=False, highlight=False)
