"""The report page: one self-contained HTML file, for light and dark displays."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from cloud_assets.reports.formatting import format_number, readable

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

SYNTHETIC_BANNER = (
    "Synthetic data: these numbers come from simulated patches. They show that the pipeline works; "
    "they say nothing about real imagery."
)
SHOWN_ROWS = 40


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
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labelled values by heading: data, model, versions. Long sections are folded."""
    commands: Sequence[str] = ()


def render(page: Page) -> str:
    """Renders a page; everything in it is escaped."""
    return _template().render(page=page)


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
                more=f"… and {hidden} more rows in tables/{name}.parquet" if hidden > 0 else "",
            )
        )
    return views


def job_commands(task: str) -> list[str]:
    """The commands that make a task's reports again."""
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
