"""A page a task, in Markdown with small pictures, made of a home's results: what it learns, from what, how well."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, TypeVar

from cloud_assets.errors import CloudAssetsError, DataNotFound
from cloud_assets.lifecycle.drift_report import DriftReport
from cloud_assets.lifecycle.gallery_page import SUMMARY_FILE, TaskResults, write_page
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.lifecycle.suspicious_labels import SuspiciousLabels
from cloud_assets.reports.comparison import Comparison
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.storage import atomic_file
from cloud_assets.tasks.task import Task

INDEX, LINEAGE = "README.md", "lineage.svg"


class _Openable(Protocol):
    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads an asset."""


Kind = TypeVar("Kind", bound=_Openable)


def write_gallery(homes: Sequence[Path], out: Path, tasks: Sequence[Task]) -> dict[str, Path]:
    """Writes the pages of all tasks that have results, and the index of all pages that there are.

    Args:
        homes: Folders of results; the first that holds an evaluation of a task's variant counts.
        out: Folder of the pages. Pages and pictures of tasks without results are left as they are.
        tasks: The tasks.

    Returns:
        The pages written, by task.

    Raises:
        DataNotFound: If no home holds results of any task.
    """
    written = {}
    for task in tasks:
        found = next((results for home in homes if (results := task_results(home, task)) is not None), None)
        if found is not None:
            written[task.name] = write_page(task, found, out)
    if not written:
        raise DataNotFound(
            f"{', '.join(map(str, homes))}: no evaluation of any task. Run a job first (dagster job execute -m "
            "cloud_assets.definitions -j demo), or name the folder of results (--home)."
        )
    _write_index(out, tasks)
    return written


def task_results(home: Path, task: Task) -> TaskResults | None:
    """Reads a task's results; None if there is no evaluation of its best variant."""
    folder = home / task.name
    champion = _opened(Champion, folder / "champion")
    comparison = _opened(Comparison, folder / "comparison")
    ranked = [] if champion is None else [champion.record.variant]
    ranked += [] if comparison is None else list(comparison.ranking)
    for variant in dict.fromkeys([*ranked, *task.variants]):
        evaluation = _opened(Evaluation, folder / f"{variant}_report")
        if evaluation is not None:
            return TaskResults(
                comparison,
                evaluation,
                champion,
                _opened(DriftReport, folder / "drift_report"),
                _opened(SuspiciousLabels, folder / "suspicious_labels"),
            )
    return None


def _opened(kind: type[Kind], folder: Path) -> Kind | None:
    """An asset of the home; None if it was never made, or by another version."""
    if not folder.is_dir():
        return None
    try:
        return kind.open(folder)
    except CloudAssetsError:
        return None


def _write_index(out: Path, tasks: Sequence[Task]) -> None:
    """One line a page, with what its first table says; pages of earlier calls stay listed."""
    lines = [
        "# Gallery",
        "",
        "One page a task, written by `cloud-assets gallery --out docs` from the assets of a home: what the model",
        "learns, from what data, how good it is, and what its mistakes look like.",
        "",
        *([f"![The lineage of a task]({LINEAGE})", ""] if (out / LINEAGE).is_file() else []),
        "| task | best model | test split |",
        "| --- | --- | --- |",
    ]
    for task in tasks:
        summary = out / task.name / SUMMARY_FILE
        if summary.is_file():
            content = json.loads(summary.read_text(encoding="utf-8"))
            lines.append(f"| [{task.title}]({task.name}.md) | {content['best']} | {content['headline']} |")
    with atomic_file(out / INDEX) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
