"""Drift of a task's data over time: what each batch looked like, which were unusual, and the figure that shows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cloud_assets.errors import InvalidReport
from cloud_assets.lifecycle.drift_statistics import Drift, Level
from cloud_assets.reports.contents import read_figures, read_tables, write_figures, write_tables
from cloud_assets.reports.page import Page, Tile, figure_views, render, table_views
from cloud_assets.reports.style import BASELINE_COLOUR, CLASS_COLOURS, SERIES_COLOURS, figure_style, png
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
Kind = Literal["scene", "recent scenes", "new patches"]
LEVEL_COLOURS: Mapping[Level, str] = {
    "steady": BASELINE_COLOUR,
    "warning": "#e69f00",
    "severe": "#c4261d",
}
CAPTIONS = {
    "over_time": "Each dot is a batch, oldest left: a scene, all recent scenes together, or new patches. Above: how "
    "unusual it is (1 in so many undisturbed batches looks like this). Below: the feature that moved most.",
    "batches": "p_value: share of undisturbed batches of the same structure that are as unusual.",
    "features": "The latest joint batch, most unusual feature first. excess: standard deviations above what is usual.",
}


@dataclass(frozen=True)
class BatchDrift:
    """One batch and what the comparison found."""

    name: str
    kind: Kind
    seen: str
    """When it was looked at (UTC, ISO 8601)."""
    level: Level
    p_value: float
    patches: int
    groups: int
    feature: str
    """The feature that moved most."""
    ks: float
    psi: float


@dataclass(frozen=True)
class DriftReport:
    """What is known about drift of a task's data against its champion's training reference."""

    task: str
    model_version: str
    """The champion's version; batches were compared with its reference."""
    batches: Sequence[BatchDrift] = ()
    """Oldest first."""
    observations: pd.DataFrame | None = None
    """One row a window of a scene: ``batch``, ``seen``, and the features; what joint batches are made of."""
    features: pd.DataFrame | None = None
    """The latest joint batch, feature by feature."""
    notes: Sequence[str] = ()
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """Drawn by :func:`drawn`."""
    is_blind: bool = False
    """The champion's card has no usable reference: nothing can be told."""

    @property
    def latest(self) -> tuple[BatchDrift, ...]:
        """The findings that count now: the last joint batch of scenes and the last batch of new patches."""
        by_kind = {batch.kind: batch for batch in self.batches if batch.kind != "scene"}
        return tuple(by_kind.values())

    @property
    def level(self) -> Level:
        """The worst of :attr:`latest`."""
        levels = [batch.level for batch in self.latest]
        return "severe" if "severe" in levels else "warning" if "warning" in levels else "steady"

    @property
    def data_version(self) -> str:
        """Changes with the model and with every batch."""
        content = [self.task, self.model_version, *(asdict(batch) for batch in self.batches)]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def save(self, directory: Path) -> None:
        """Writes ``drift.json``, ``tables/``, ``figures/`` and ``report.html`` into a folder, which is replaced."""
        with atomic_directory(directory) as folder:
            content = {
                "schema_version": SCHEMA_VERSION,
                "task": self.task,
                "model_version": self.model_version,
                "level": self.level,
                "is_blind": self.is_blind,
                "notes": list(self.notes),
                "batches": [asdict(batch) for batch in self.batches],
                "tables": write_tables(self._tables(), folder / "tables"),
                "figures": write_figures(self.figures, folder / "figures"),
            }
            (folder / "drift.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (folder / "report.html").write_text(render(_page(self)), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> DriftReport:
        """Reads what :meth:`save` wrote.

        Raises:
            InvalidReport: If the folder holds none, half of one, or one of another schema version.
        """
        try:
            content = json.loads((directory / "drift.json").read_text(encoding="utf-8"))
            if content["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"it has schema version {content['schema_version']}")
            tables = read_tables(content["tables"], directory / "tables")
            return cls(
                content["task"],
                content["model_version"],
                tuple(BatchDrift(**batch) for batch in content["batches"]),
                tables.get("observations"),
                tables.get("features"),
                tuple(content["notes"]),
                read_figures(content["figures"], directory / "figures"),
                content["is_blind"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidReport(
                f"{directory} holds no report on drift that this version can read ({error}). Delete it; the next "
                "materialisation starts a new one."
            ) from error

    def _tables(self) -> dict[str, pd.DataFrame]:
        tables = {"observations": self.observations, "features": self.features}
        return {name: table for name, table in tables.items() if table is not None}


def batch_table(report: DriftReport) -> pd.DataFrame:
    """The batches, newest first."""
    import pandas as pd

    return pd.DataFrame([asdict(batch) for batch in reversed(report.batches)])


def feature_table(drift: Drift) -> pd.DataFrame:
    """A comparison's features, most unusual first."""
    import pandas as pd

    return pd.DataFrame([asdict(feature) for feature in drift.features])


def drawn(batches: Sequence[BatchDrift]) -> dict[str, bytes]:
    """The figure over time.

    Args:
        batches: Oldest first.

    Returns:
        ``over_time`` as PNG image; nothing without a batch.
    """
    if not batches:
        return {}
    from matplotlib.figure import Figure

    markers = {"scene": "o", "recent scenes": "D", "new patches": "s"}
    with figure_style():
        figure = Figure(figsize=(10, 5.2))
        above, below = figure.subplots(2, 1, sharex=True)
        places = range(len(batches))
        for kind, marker in markers.items():
            for level, colour in LEVEL_COLOURS.items():
                chosen = [n for n in places if (batches[n].kind, batches[n].level) == (kind, level)]
                shown = {"marker": marker, "color": colour, "s": 34, "label": f"{kind}, {level}"}
                if chosen:
                    above.scatter(chosen, [1 / batches[n].p_value for n in chosen], **shown)
        above.set_yscale("log")
        above.set_ylabel("unusual: 1 in …")
        above.legend(loc="upper left", ncols=3)
        below.plot(places, [batch.ks for batch in batches], color=CLASS_COLOURS["cloud"], label="Kolmogorov–Smirnov D")
        below.plot(places, [batch.psi for batch in batches], color=SERIES_COLOURS[1], label="stability index (PSI)")
        below.set_ylabel("largest distance")
        below.set_ylim(bottom=0)
        below.legend(loc="upper left", ncols=2)
        step = max(1, len(batches) // 12)
        below.set_xticks(places[::step], [f"{batches[n].seen[:10]}\n{batches[n].feature}" for n in places[::step]])
        below.tick_params(axis="x", labelsize=8, rotation=30)
        return {"over_time": png(figure)}


def _page(report: DriftReport) -> Page:
    tiles = [
        Tile(batch.kind, batch.level, f"p {batch.p_value:.3g}, {batch.feature}: D {batch.ks:.2f}, PSI {batch.psi:.2f}")
        for batch in report.latest
    ]
    tables = {"batches": batch_table(report)} if report.batches else {}
    if report.features is not None:
        tables["features"] = report.features
    return Page(
        title=f"{report.task} / drift",
        subtitle=f"New data against the training reference of model {report.model_version}",
        tiles=tiles,
        notes=report.notes,
        figures=figure_views(report.figures, CAPTIONS),
        tables=table_views(tables, CAPTIONS),
    )
