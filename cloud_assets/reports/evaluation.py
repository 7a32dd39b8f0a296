"""The evaluation of one model on its task's test split: metrics, tables, figures and how they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.formatting import format_number, readable
from cloud_assets.reports.page import (
    SYNTHETIC_BANNER,
    Page,
    TableView,
    Tile,
    figure_views,
    job_commands,
    table_views,
)
from cloud_assets.reports.report import Report

METRICS_FILE = "metrics.json"
_PREFIXES = {"validation_": "validation", "baseline_": "trivial baseline"}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Report):
    """A model's evaluation on its task's test split.

    ``metrics.json`` in its folder is a flat object of finite numbers.

    Raises:
        InvalidReport: If a metric is not a finite number. What cannot be measured is left out and noted.
    """

    file: ClassVar[str] = "evaluation.json"
    remedy: ClassVar[str] = "Evaluate the model again."

    task: str
    """Name of the task."""
    variant: str
    """Name of the task's variant."""
    metrics: Mapping[str, float]
    """Flat: the test split's metrics by their standard names, the validation split's with ``validation_`` before them,
    those of trivial rules with a prefix of :data:`~cloud_assets.reports.gate.TRIVIAL_RULES`."""
    model_version: str
    """Version of the :class:`ModelBundle` that was evaluated."""
    patches_version: str
    """Data version of the patch store."""
    splits_version: str
    """Data version of the splits."""
    is_synthetic: bool
    """True if the test data are simulated: the numbers then say nothing about real imagery."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the evaluator, as JSON. Numbers of different settings are not compared."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Models of other tasks that the evaluation compared with: their versions by the name of the task."""
    headline: Sequence[str] = ()
    """Names of the metrics that the report shows first."""
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labelled values for the report by heading: the data, the model, its training."""

    def __post_init__(self) -> None:
        wrong = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        if wrong:
            raise InvalidReport(
                f"{self.task}/{self.variant}: the metrics {', '.join(wrong)} are not finite numbers. Leave out what "
                "the test split cannot tell and say so in the notes."
            )

    def extra_files(self) -> Mapping[str, Mapping[str, Any]]:
        """``metrics.json``."""
        return {METRICS_FILE: dict(self.metrics)}

    def page(self) -> Page:
        """Headline metrics, notes, figures, what was evaluated and how, and all tables."""
        return Page(
            title=f"{self.task} / {self.variant}",
            subtitle=f"Evaluation on the test split, {self.created}",
            banner=SYNTHETIC_BANNER if self.is_synthetic else "",
            tiles=[_tile(name, self.metrics) for name in self.headline if name in self.metrics],
            notes=self.notes,
            figures=figure_views(self.figures, self.captions),
            tables=[*table_views(self.tables, self.captions), _metrics_table(self.metrics)],
            sections={
                **self.sections,
                "Versions": {
                    "model": self.model_version,
                    "patches": self.patches_version,
                    "splits": self.splits_version,
                    **{f"champion of {task}": version for task, version in self.references.items()},
                },
            },
            commands=job_commands(self.task),
        )


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
