"""The report: one self-contained HTML page, readable in light and dark, that makes no request to anything."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from cloud_assets.reports.formatting import format_number, readable

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

    from cloud_assets.reports.comparison import Comparison
    from cloud_assets.reports.evaluation import Evaluation

SYNTHETIC_BANNER = (
    "Synthetic data: these numbers come from simulated patches. They show that the pipeline works; "
    "they say nothing about real imagery."
)
SHOWN_ROWS = 40
_PREFIXES = {"validation_": "validation", "baseline_": "trivial baseline"}


@dataclass(frozen=True)
class Tile:
    """One of the numbers that a reader sees first."""

    label: str
    value: str
    remark: str


@dataclass(frozen=True)
class TableView:
    """A table as text, cut to what a page can show."""

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]
    """For each column whether it is set flush right."""
    more: str = ""
    """Where the rows are that were cut off."""


@dataclass(frozen=True)
class FigureView:
    """A figure with its PNG inside the page."""

    title: str
    caption: str
    source: str
    """A data URI."""


@dataclass(frozen=True)
class Page:
    """What a report shows, from top to bottom."""

    title: str
    subtitle: str
    banner: str = ""
    tiles: Sequence[Tile] = ()
    notes: Sequence[str] = ()
    figures: Sequence[FigureView] = ()
    tables: Sequence[TableView] = ()
    facts: Mapping[str, Mapping[str, str]] | None = None
    commands: Sequence[str] = ()


def render(page: Page) -> str:
    """Renders a page; everything in it is escaped."""
    return _template().render(page=page)


def evaluation_page(evaluation: Evaluation) -> Page:
    """Lays out an evaluation."""
    return Page(
        title=f"{evaluation.task} / {evaluation.variant}",
        subtitle=f"Evaluation on the test split, {evaluation.created}",
        banner=SYNTHETIC_BANNER if evaluation.is_synthetic else "",
        tiles=[_tile(name, evaluation.metrics) for name in evaluation.headline if name in evaluation.metrics],
        notes=evaluation.notes,
        figures=figure_views(evaluation.figures, evaluation.captions),
        tables=[*table_views(evaluation.tables, evaluation.captions), _metrics_table(evaluation.metrics)],
        facts={
            **evaluation.facts,
            "Versions": {
                "model": evaluation.model_version,
                "patches": evaluation.patches_version,
                "splits": evaluation.splits_version,
            },
        },
        commands=_commands(evaluation.task),
    )


def comparison_page(comparison: Comparison) -> Page:
    """Lays out a comparison."""
    metric = comparison.gate.metric
    tiles = [
        Tile(f"{position}. {variant}", format_number(comparison.metrics[variant][metric]), readable(metric))
        for position, variant in enumerate(comparison.ranking, start=1)
    ]
    by_metric = comparison.table.drop(columns="kind").set_index("name").T.rename_axis("metric").reset_index()
    return Page(
        title=f"{comparison.task} / comparison",
        subtitle=f"Variants ranked by {readable(metric)} on the same test split, {comparison.created}",
        banner=SYNTHETIC_BANNER if comparison.is_synthetic else "",
        tiles=tiles,
        notes=[f"Best variant: {comparison.best}; {comparison.decision.reason}.", *comparison.notes],
        figures=figure_views(comparison.figures, comparison.captions),
        tables=table_views({"all_metrics": by_metric}, comparison.captions),
        facts={
            "Versions": {
                **{f"model {variant}": version for variant, version in comparison.model_versions.items()},
                "patches": comparison.patches_version,
                "splits": comparison.splits_version,
            }
        },
        commands=_commands(comparison.task),
    )


def figure_views(figures: Mapping[str, bytes], captions: Mapping[str, str]) -> list[FigureView]:
    """Figures as data URIs with their titles and captions."""
    return [
        FigureView(readable(name), captions.get(name, ""), f"data:image/png;base64,{base64.b64encode(png).decode()}")
        for name, png in figures.items()
    ]


def table_views(tables: Mapping[str, pd.DataFrame], captions: Mapping[str, str]) -> list[TableView]:
    """Tables as text; of long ones the first :data:`SHOWN_ROWS` rows."""
    from pandas.api.types import is_numeric_dtype

    views = []
    for name, table in tables.items():
        hidden = len(table) - SHOWN_ROWS
        views.append(
            TableView(
                title=readable(name),
                caption=captions.get(name, ""),
                columns=[readable(str(column)) for column in table.columns],
                rows=[
                    [format_number(value) for value in row]
                    for row in table.head(SHOWN_ROWS).itertuples(index=False, name=None)
                ],
                numeric=[is_numeric_dtype(table[column]) for column in table.columns],
                more=f"… and {hidden} more rows in tables/{name}.csv" if hidden > 0 else "",
            )
        )
    return views


def _tile(name: str, metrics: Mapping[str, float]) -> Tile:
    baseline = metrics.get(f"baseline_{name}")
    remark = "" if baseline is None else f"trivial baseline {format_number(baseline)}"
    return Tile(readable(name), format_number(metrics[name]), remark)


def _metrics_table(metrics: Mapping[str, float]) -> TableView:
    """All metrics, one row a name, one column for the split or baseline that the name's prefix tells."""
    columns = ["test", *_PREFIXES.values()]
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
        rows.setdefault(name.removeprefix(prefix), {})[_PREFIXES.get(prefix, "test")] = value
    return TableView(
        title="All metrics",
        caption="The same numbers as in metrics.json; there validation_ and baseline_ stand before the names.",
        columns=["metric", *columns],
        rows=[
            [name, *(format_number(row[column]) if column in row else "" for column in columns)]
            for name, row in rows.items()
        ],
        numeric=[False, True, True, True],
    )


def _commands(task: str) -> list[str]:
    return [
        "export CLOUD_ASSETS_DATA=<folder of the data sets; leave it unset for the embedded sample>",
        f"dagster job execute -m cloud_assets.definitions -j {task}",
    ]


@cache
def _template() -> jinja2.Template:
    import jinja2

    source = files("cloud_assets.reports").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(source)
