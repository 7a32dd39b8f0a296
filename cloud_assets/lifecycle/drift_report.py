"""Drift of a task's data over time: what each batch looked like, which were unusual, and the figure that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from cloud_assets.lifecycle.drift_statistics import Level
from cloud_assets.reports.figures import BASELINE_COLOUR, CLASS_COLOURS, SERIES_COLOURS, figure_style, png
from cloud_assets.reports.report import Page, Report, Tile

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["scene", "recent scenes", "new patches"]
LEVEL_COLOURS: Mapping[Level, str] = {"steady": BASELINE_COLOUR, "warning": "#e69f00", "severe": "#c4261d"}
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


@dataclass(frozen=True, kw_only=True)
class DriftReport(Report):
    """Drift of a task's data against its champion's training reference."""

    file: ClassVar[str] = "drift.json"
    remedy: ClassVar[str] = "Delete it; the next materialisation starts a new one."

    task: str
    model_version: str
    """The champion's version; batches were compared with its reference."""
    batches: Sequence[BatchDrift] = ()
    """Oldest first."""
    is_blind: bool = False
    """The champion's card has no usable reference: drift cannot be measured."""

    @property
    def observations(self) -> pd.DataFrame | None:
        """One row a window of a scene: ``batch``, ``seen``, and the features; what joint batches are made of."""
        return self.tables.get("observations")

    @property
    def features(self) -> pd.DataFrame | None:
        """The latest joint batch, feature by feature."""
        return self.tables.get("features")

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

    def page(self) -> Page:
        """The latest findings, the figure over time, the batches and the features of the latest one."""
        tables = {"batches": batch_table(self)} if self.batches else {}
        if self.features is not None:
            tables["features"] = self.features
        return Page(
            title=f"{self.task} / drift",
            subtitle=f"New data against the training reference of model {self.model_version}",
            tiles=[
                Tile(one.kind, one.level, f"p {one.p_value:.3g}, {one.feature}: D {one.ks:.2f}, PSI {one.psi:.2f}")
                for one in self.latest
            ],
            tables=tables,
            captions=CAPTIONS,
        )


def batch_table(report: DriftReport) -> pd.DataFrame:
    """The batches, newest first."""
    import pandas as pd

    return pd.DataFrame(map(asdict, reversed(report.batches)))


def drawn(batches: Sequence[BatchDrift]) -> dict[str, bytes]:
    """The figure ``over_time`` as PNG image; nothing without a batch."""
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
