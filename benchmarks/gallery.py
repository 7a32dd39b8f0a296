"""Writes the gallery: a Markdown page a task with numbers, figures and model card, from the assets of a home.

    python benchmarks/gallery.py [--out docs/gallery] [--home FOLDER ...]

The first home that holds an evaluation of a task's variant counts; without ``--home`` it is CLOUD_ASSETS_HOME, else
``data``. Pages of tasks without results stay as they are, and stay listed in the index. ``benchmarks/results.py`` makes
these results by the half_hour configuration of each task, which the pages name.
"""

import argparse
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import pandas as pd
from pandas.api.types import is_numeric_dtype
from PIL import Image

from cloud_assets.errors import CloudAssetsError
from cloud_assets.lifecycle.drift import CAPTIONS as DRIFT_CAPTIONS
from cloud_assets.lifecycle.drift import DriftReport
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.lifecycle.suspicious_labels import CAPTIONS as LABEL_CAPTIONS
from cloud_assets.lifecycle.suspicious_labels import SuspiciousLabels
from cloud_assets.reports.comparison import Comparison
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.report import SYNTHETIC_BANNER, format_number, readable
from cloud_assets.storage import atomic_directory, atomic_file
from cloud_assets.tasks import ALL_TASKS
from cloud_assets.tasks.task import Task

INDEX = "README.md"
SUMMARY_FILE = "summary.json"
"""Beside a page's pictures: what the index says about it."""
_FIGURE_BYTES = 250_000
_WIDEST, _NARROWEST = 1100, 500
_MOST_FIGURES = 5
_SHOWN_METRICS = 7
_SHOWN_ROWS = 10


@dataclass(frozen=True)
class TaskResults:
    """What a home holds of a task."""

    comparison: Comparison | None
    evaluation: Evaluation
    """Of the champion's variant, or of the best one that was evaluated."""
    champion: Champion | None
    drift: DriftReport | None
    labels: SuspiciousLabels | None


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"), help="folder of the pages")
    parser.add_argument("--home", type=Path, action="append", help="folder of results; several times")
    options = parser.parse_args()
    homes = options.home or [Path(os.environ.get("CLOUD_ASSETS_HOME") or "data")]
    for name, page in write_gallery(homes, options.out, ALL_TASKS).items():
        print(f"{name}: {page}")


class Openable(Protocol):
    """An asset that can be read from its folder."""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads an asset."""


Kind = TypeVar("Kind", bound=Openable)


def write_gallery(homes: Sequence[Path], out: Path, tasks: Sequence[Task]) -> dict[str, Path]:
    """Writes the pages of all tasks that have results, and the index of all pages that there are.

    Args:
        homes: Folders of results; the first that holds an evaluation of a task's variant counts.
        out: Folder of the pages. Pages and pictures of tasks without results are left as they are.
        tasks: The tasks.

    Returns:
        The pages written, by task.
    """
    written = {}
    for task in tasks:
        found = next((results for home in homes if (results := task_results(home, task)) is not None), None)
        if found is not None:
            written[task.name] = write_page(task, found, out)
    if not written:
        raise SystemExit(
            f"{', '.join(map(str, homes))}: no evaluation of any task. Run a job first (dg launch --job demo), or name "
            "the folder of results (--home)."
        )
    write_index(out, tasks)
    return written


def task_results(home: Path, task: Task) -> TaskResults | None:
    """Reads a task's results; None if there is no evaluation of its best variant."""
    folder = home / task.name
    champion = opened(Champion, folder / "champion")
    comparison = opened(Comparison, folder / "comparison")
    ranked = [] if champion is None else [champion.record.variant]
    ranked += [] if comparison is None else list(comparison.ranking)
    for variant in dict.fromkeys([*ranked, *task.variants]):
        evaluation = opened(Evaluation, folder / f"{variant}_report")
        if evaluation is not None:
            return TaskResults(
                comparison,
                evaluation,
                champion,
                opened(DriftReport, folder / "drift_report"),
                opened(SuspiciousLabels, folder / "suspicious_labels"),
            )
    return None


def opened(kind: type[Kind], folder: Path) -> Kind | None:
    """An asset of the home; None if it was never made, or by another version."""
    if not folder.is_dir():
        return None
    try:
        return kind.open(folder)
    except CloudAssetsError:
        return None


def write_index(out: Path, tasks: Sequence[Task]) -> None:
    """One line a page, with what its first table says; pages of earlier calls stay listed."""
    lines = [
        "# Gallery",
        "",
        "One page a task, written by `python benchmarks/gallery.py` from the assets of a home: what the model",
        "learns, from what data, how good it is, and what its mistakes look like.",
        "",
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


def write_page(task: Task, found: TaskResults, out: Path) -> Path:
    """Writes a task's page and its folder of pictures, which is replaced as a whole.

    Args:
        task: The task.
        found: Its results.
        out: Folder of the pages.

    Returns:
        The page.
    """
    evaluation, gate = found.evaluation, task.gate
    pictures, captions = _pictures(found)
    with atomic_directory(out / task.name) as folder:
        for name, png in pictures.items():
            (folder / f"{name}.png").write_bytes(smaller_png(png))
        value = evaluation.metrics.get(gate.metric)
        headline = "not measured" if value is None else f"{readable(gate.metric)} {format_number(value)}"
        if evaluation.is_synthetic:
            headline += " (simulated data)"
        summary = {"best": evaluation.variant, "headline": headline}
        (folder / SUMMARY_FILE).write_text(json.dumps(summary) + "\n", encoding="utf-8")
    lines = [f"# {task.title}", ""]
    if evaluation.is_synthetic:
        lines += [f"> **{SYNTHETIC_BANNER}**", ""]
    lines += [task.description, "", *_command(task), *_models(task, found), *_numbers(evaluation)]
    for name in pictures:
        lines += [
            f"## {readable(name)}",
            "",
            captions.get(name, ""),
            "",
            f"![{readable(name)}]({task.name}/{name}.png)",
            "",
        ]
    lines += _card(found)
    page = out / f"{task.name}.md"
    with atomic_file(page) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return page


def smaller_png(png: bytes) -> bytes:
    """A picture for a repository: at most 1100 pixels wide, in 256 colours, narrower until it is small enough.

    Args:
        png: A PNG image.

    Returns:
        A PNG image of at most 250 kB, if one of 500 pixels' width is.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    width = min(picture.width, _WIDEST)
    while True:
        height = round(picture.height * width / picture.width)
        shrunk = picture if width == picture.width else picture.resize((width, height), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        shrunk.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
        if stream.tell() <= _FIGURE_BYTES or width <= _NARROWEST:
            return stream.getvalue()
        width = max(_NARROWEST, width * 17 // 20)


def _pictures(found: TaskResults) -> tuple[dict[str, bytes], Mapping[str, str]]:
    """The figures shown, and their captions: the evaluation's first ones, then what people watch."""
    pictures = dict(list(found.evaluation.figures.items())[:_MOST_FIGURES])
    captions = dict(found.evaluation.captions)
    if found.comparison is not None and len(found.comparison.ranking) > 1:
        first = next(iter(found.comparison.figures.items()), None)
        if first is not None:
            pictures[f"comparison_{first[0]}"] = first[1]
            captions[f"comparison_{first[0]}"] = found.comparison.captions.get(first[0], "")
    if found.labels is not None:
        pictures |= {f"suspicious_labels_{name}": png for name, png in found.labels.figures.items()}
        captions |= {f"suspicious_labels_{name}": text for name, text in LABEL_CAPTIONS.items()}
    if found.drift is not None:
        pictures |= {f"drift_{name}": png for name, png in found.drift.figures.items()}
        captions |= {f"drift_{name}": text for name, text in DRIFT_CAPTIONS.items()}
    return pictures, captions


def _command(task: Task) -> list[str]:
    config = f"cloud_assets/run_configs/{task.name}.half_hour.yaml"
    return ["```bash", f"dagster job execute -m cloud_assets.definitions -j {task.name} -c {config}", "```", ""]


def _models(task: Task, found: TaskResults) -> list[str]:
    """The variants side by side, and who is champion why."""
    lines = ["## Models", ""]
    if found.comparison is not None:
        table = found.comparison.table
        shown = [name for name in table.columns if name not in ("name", "kind")][:_SHOWN_METRICS]
        lines += [*markdown_table(table[["name", "kind", *shown]]), ""]
    if found.champion is not None:
        record = found.champion.record
        lines += [f"Champion: **{record.variant}**, version {record.version}. {record.reason}.", ""]
    lines += [f"Ranked by {readable(task.gate.metric)}; the figures below are of `{found.evaluation.variant}`.", ""]
    return lines


def _numbers(evaluation: Evaluation) -> list[str]:
    """Headline metrics beside those of the trivial baseline, the splits, and what to know about them."""
    lines = ["## Test split", "", "| metric | value | trivial baseline |", "| --- | ---: | ---: |"]
    for name in evaluation.headline:
        if name in evaluation.metrics:
            baseline = evaluation.metrics.get(f"baseline_{name}")
            known = "" if baseline is None else format_number(baseline)
            lines.append(f"| {readable(name)} | {format_number(evaluation.metrics[name])} | {known} |")
    lines += ["", *(f"- {note}" for note in evaluation.notes), ""]
    if "splits" in evaluation.tables:
        lines += [
            "## Data",
            "",
            *_listed_values(evaluation.sections.get("Data", {})),
            *markdown_table(evaluation.tables["splits"]),
            "",
        ]
    return lines


def _card(found: TaskResults) -> list[str]:
    """The model card in a few lines, and the whole recipe folded away."""
    sections = found.evaluation.sections
    lines = [
        "## Model card",
        "",
        *_listed_values(sections.get("Model", {})),
        *_listed_values(sections.get("Training", {})),
    ]
    recipe = sections.get("Recipe", {})
    if recipe:
        lines += ["<details><summary>The whole recipe</summary>", "", *_listed_values(recipe), "</details>", ""]
    return lines


def _listed_values(values: Mapping[str, str]) -> list[str]:
    return [*(f"- {name}: {value}" for name, value in values.items() if value), ""]


def markdown_table(table: pd.DataFrame) -> list[str]:
    """The first rows of a table as lines of Markdown."""
    columns = list(table.columns)
    rule = ["---:" if is_numeric_dtype(table[name]) else "---" for name in columns]
    lines = [f"| {' | '.join(readable(str(name)) for name in columns)} |", f"| {' | '.join(rule)} |"]
    for row in table.head(_SHOWN_ROWS).itertuples(index=False, name=None):
        lines.append(f"| {' | '.join(format_number(value).replace('|', '/') for value in row)} |")
    return lines


if __name__ == "__main__":
    main()
