"""Figures that several reports share, and how every figure of the project looks.

One set of colours and one font size. The hues follow Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), safe
for colour-blind readers; neighbours also differ in lightness, so the maps survive a grey printer.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import NoUsablePatches
from cloud_assets.reports.predictions import band_channels, instrument_of
from cloud_assets.reports.report import format_number, readable
from cloud_assets.reports.statistics import histogram_samples

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cloud_assets.patches.store import Role

CLASS_COLOURS: Mapping[str, str] = {
    "clear": "#d9d2c3",
    "cloud": "#0072b2",
    "thick cloud": "#0072b2",
    "thin cloud": "#56b4e9",
    "cloud shadow": "#2b2b2b",
    "unlabelled": "#ffffff",
}
"""Colour of each class, wherever it is drawn."""
OUTCOME_COLOURS: Mapping[str, str] = {
    "cloud, found": "#0072b2",
    "clear, found": "#d9d2c3",
    "false cloud": "#e69f00",
    "missed cloud": "#c4261d",
    "not scored": "#ffffff",
}
"""Colours of error maps: true positive, true negative, false positive, false negative, nodata or unlabelled."""
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#2b2b2b")
"""Colours of curves and bars, in this order."""
BASELINE_COLOUR = "#9aa3ad"
"""Colour of everything that a trivial baseline reaches, and of frames."""
TRUE_COLOUR, FALSE_COLOUR = ("red", "green", "blue"), ("nir", "red", "green")
UNIT = (-0.02, 1.02)  # limits of an axis of shares
STRETCH_NOTE = "brightness stretched patch by patch (1st to 99th percentile, shadows lifted)"
WIDTH, CURVE_SIZE, HALVES_SIZE = 10.4, (8.6, 4.3), (8.6, 3.9)
"""Width of figures with many parts, width and height of one curve and of two side by side, in inches."""

_DPI = 110
_STYLE = Path(__file__).with_name("figures.mplstyle")
_RELIABILITY_BINS = 20
_SMALLEST_RANGE, _NODATA_GREY, _GAMMA = 0.1, 0.5, 0.7
_MOST_SCENES, _LONGEST_NAME = 30, 44

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.float32]  # (H, W, 3) in [0, 1]


@contextmanager
def figure_style() -> Iterator[None]:
    """Applies the project's look to the figures made inside the block, and to nothing else."""
    from cycler import cycler
    from matplotlib import style

    with style.context([_STYLE, {"axes.prop_cycle": cycler(color=SERIES_COLOURS)}]):
        yield


@contextmanager
def drawing(width: float, height: float, *grid: int, sharex: bool = False) -> "Iterator[tuple[Figure, Any]]":
    """A figure in the project's look, of so many inches, and its axes as of ``Figure.subplots``."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots(*grid, sharex=sharex)


def png(figure: "Figure") -> bytes:
    """A figure as PNG image. Call it inside the :func:`drawing` block that made the figure."""
    buffer = io.BytesIO()
    # No time stamp and no version: equal figures are equal files.
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def composite(dn: npt.NDArray[Any], role: "Role", bands: tuple[str, str, str]) -> Picture | None:
    """A colour picture of a patch.

    The three bands share one stretch, so that grey stays grey; it never spans less than a reflectance of 0.1, so that
    noise on dark water is not blown up to a pattern. Dark ground beside bright cloud is lifted (gamma 0.7).

    Args:
        dn: (C, H, W) digital numbers, all bands of the role.
        role: What they are.
        bands: Bands to show as red, green and blue, by common name.

    Returns:
        (H, W, 3) in [0, 1], nodata grey; None if the role lacks one of the bands or holds no reflectance.
    """
    if INSTRUMENTS[role.instrument].unit != "reflectance":
        return None
    try:
        channels = band_channels(role, bands)
    except NoUsablePatches:
        return None
    instrument = instrument_of(role)
    shown, valid = instrument.to_physical(dn[channels]), instrument.valid(dn)
    if not valid.any():
        return np.full((*valid.shape, 3), _NODATA_GREY, np.float32)
    low, high = np.percentile(shown[:, valid], [1, 99])
    stretched = np.clip((shown - low) / max(high - low, _SMALLEST_RANGE), 0, 1) ** _GAMMA
    return np.moveaxis(np.where(valid, stretched, _NODATA_GREY), 0, -1).astype(np.float32)


def composites(dn: npt.NDArray[Any], role: "Role") -> dict[str, Picture]:
    """The colour pictures that a role's bands allow, by their heading; see :func:`composite`."""
    found = {"true colour": composite(dn, role, TRUE_COLOUR), "NIR, red, green": composite(dn, role, FALSE_COLOUR)}
    return {heading: picture for heading, picture in found.items() if picture is not None}


def visible_bands(role: "Role") -> tuple[str, ...]:
    """Red, green and blue; all bands of a role that does not hold these."""
    held = {INSTRUMENTS[role.instrument].find(band).common_name for band in role.bands}
    return TRUE_COLOUR if held.issuperset(TRUE_COLOUR) else tuple(role.bands)


def painted(codes: npt.NDArray[np.uint8], names: Mapping[int, str], colours: Mapping[str, str]) -> Picture:
    """A picture of codes (H, W), each in the colour of its name."""
    from matplotlib.colors import to_rgb

    palette = np.ones((256, 3), np.float32)
    for code, name in names.items():
        palette[code] = to_rgb(colours[name])
    return palette[codes]


def without_ticks(axes: "Axes", *, framed: bool = False) -> None:
    """Makes axes the place of a picture, with a thin frame where the picture may be white."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values() if framed else ():
        spine.set(visible=True, color=BASELINE_COLOUR, linewidth=0.8)


def ranking_bars(table: "pd.DataFrame", metric: str, better: str, minimum: float | None = None) -> bytes:
    """Bars of the gate's metric, ``better`` "higher" or "lower", variants above baselines, its minimum as a line.

    ``table`` has the columns ``name``, ``kind`` ("variant" or "baseline") and the gate's metric.
    """
    from matplotlib.patches import Patch

    shown = table[table[metric].notna()]
    names, values, kinds = shown["name"].tolist(), shown[metric].tolist(), shown["kind"].tolist()
    colours = {"variant": SERIES_COLOURS[0], "baseline": BASELINE_COLOUR}
    with drawing(8.6, 1.3 + 0.46 * len(shown)) as (figure, axes):
        bars = axes.barh(names, values, color=[colours[kind] for kind in kinds], height=0.66)
        axes.bar_label(bars, [format_number(float(value)) for value in values], padding=4)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
        axes.set_xlabel(f"{readable(metric)} (test split; {better} is better)")
        handles = [Patch(color=colours[kind], label=kind) for kind in dict.fromkeys(kinds)]
        if minimum is not None:
            axes.axvline(minimum, color=SERIES_COLOURS[1], linestyle="--", linewidth=1.3)
            handles.append(Patch(color=SERIES_COLOURS[1], label=f"the gate's minimum, {minimum:g}"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        return png(figure)


def scene_bars(per_scene: "pd.DataFrame") -> bytes | None:
    """Bars of the IoU of the 30 worst scenes; None if no scene has one.

    ``per_scene`` has the columns ``group``, ``iou`` and ``cloud_truth_percentage``, worst first.
    """
    defined = per_scene[per_scene["iou"].notna()]
    if defined.empty:
        return None
    shown = defined.head(_MOST_SCENES)
    # The end of a name tells scenes apart, so the middle is cut.
    half = _LONGEST_NAME // 2
    names = [name if len(name) <= _LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}" for name in shown["group"]]
    values, covers = shown["iou"].tolist(), shown["cloud_truth_percentage"]
    labels = [f"{value:.3f}   ({cover:.0f} % cloud)" for value, cover in zip(values, covers, strict=True)]
    with drawing(8.6, 0.9 + 0.27 * len(shown)) as (figure, axes):
        bars = axes.barh(range(len(shown)), values, color=SERIES_COLOURS[0], height=0.7)
        axes.bar_label(bars, labels, padding=4, fontsize=9)
        axes.set_yticks(range(len(shown)), names, fontsize=9)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.5), xticks=[0, 0.2, 0.4, 0.6, 0.8, 1])  # room for the labels of full bars
        axes.grid(visible=False, axis="y")
        rest = f"; the {len(shown)} worst of {len(defined)}" if len(defined) > len(shown) else ""
        axes.set_xlabel(f"IoU of cloud{rest}")
        return png(figure)


def learning_curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> bytes | None:
    """Losses and validation metrics by epoch; None of fewer than two epochs."""
    names = list(dict.fromkeys(name for row in history for name in row))
    losses = [name for name in names if "loss" in name]
    others = ("loss", "rate", "lr", "epoch", "step", "second", "time")  # are no metrics, even if below 1
    metrics = [name for name in names if not any(word in name for word in others)]
    values = {name: [row[name] for row in history if name in row and np.isfinite(row[name])] for name in metrics}
    metrics = [name for name in metrics if all(0 <= value <= 1 for value in values[name])]
    return curves_by_epoch(history, best_epoch, {"loss": losses, "metric": metrics})


def curves_by_epoch(
    history: Sequence[Mapping[str, float]], best_epoch: int, panels: Mapping[str, Sequence[str]]
) -> bytes | None:
    """Names of series by the heading of their panel, drawn by epoch; None of one epoch, or where there is no series."""
    from matplotlib.ticker import MaxNLocator

    there = {title: [name for name in names if any(name in row for row in history)] for title, names in panels.items()}
    shown = {title: names for title, names in there.items() if names}
    if not shown or len(history) < 2:
        return None
    epochs = np.arange(1, len(history) + 1)
    with drawing(*HALVES_SIZE, 1, len(shown)) as (figure, halves):
        for axes, (title, names) in zip(np.atleast_1d(halves), shown.items(), strict=True):
            for name in names:
                values = [row.get(name, np.nan) for row in history]
                axes.plot(epochs, values, marker="o", markersize=3, label=readable(name))
            axes.axvline(best_epoch + 1, color="#2b2b2b", linestyle="--", linewidth=1.1, label="weights kept")
            axes.set(xlabel="epoch", ylabel=title, xlim=(0.5, len(history) + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        return png(figure)


def precision_recall_figure(
    histogram: npt.NDArray[np.int64], chosen: tuple[float, float, str], baselines: Mapping[str, tuple[float, float]]
) -> bytes | None:
    """Precision against recall over all thresholds; None unless both classes occur.

    Args:
        histogram: (2, bins) pixels by truth (clear, cloud) and bin of the cloud probability.
        chosen: Recall, precision and description of the model's own decision.
        baselines: Recall and precision of trivial rules, by name.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    if not histogram.sum(axis=1).all():
        return None
    truth, score, pixels = histogram_samples(histogram)
    precision, recall, _ = precision_recall_curve(truth, score, sample_weight=pixels)
    average = average_precision_score(truth, score, sample_weight=pixels)
    with drawing(*CURVE_SIZE) as (figure, axes):
        axes.plot(recall, precision, label=f"model, average precision {average:.3f}")
        axes.plot(*chosen[:2], "o", color=SERIES_COLOURS[1], markersize=9, label=chosen[2])
        for marker, (name, point) in zip("sD^v", baselines.items(), strict=False):
            axes.plot(*point, marker, color=BASELINE_COLOUR, markersize=8, label=name)
        found, right = "recall (share of the cloud that is found)", "precision (share of what is found that is cloud)"
        axes.set(xlim=UNIT, ylim=UNIT, xlabel=found, ylabel=right)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return png(figure)


def reliability_figure(histogram: npt.NDArray[np.int64]) -> bytes | None:
    """How often pixels of a stated cloud probability are cloud, and how common such pixels are; None without pixels.

    ``histogram`` (2, bins) are pixels by truth (clear, cloud) and bin of the cloud probability.
    """
    coarse = histogram.reshape(2, _RELIABILITY_BINS, -1).sum(axis=2)
    total = coarse.sum(axis=0)
    seen = np.flatnonzero(total)
    if not len(seen):
        return None
    curve = (seen + 0.5) / _RELIABILITY_BINS, coarse[1][seen] / total[seen]
    return calibration_figure("predicted cloud probability", curve, "share of them that is cloud", total, "pixels")


def calibration_figure(
    stated: str, curve: tuple[Floats, Floats], share: str, counts: npt.NDArray[np.int64], what: str
) -> bytes:
    """How often what a probability is stated of is so, and how common it is by equal bins of the probability."""
    from matplotlib.ticker import PercentFormatter

    centres = (np.arange(len(counts)) + 0.5) / len(counts)
    with drawing(*HALVES_SIZE, 1, 2) as (figure, (left, right)):
        left.plot([0, 1], [0, 1], color=BASELINE_COLOUR, linestyle="--", linewidth=1.3, label="perfectly calibrated")
        left.plot(*curve, marker="o", markersize=4, label="model")
        left.set(xlim=UNIT, ylim=UNIT, xlabel=stated, ylabel=share)
        left.legend(loc="upper left")
        right.bar(centres, counts / counts.sum(), width=0.9 / len(counts), color=SERIES_COLOURS[0])
        right.set(xlabel=stated, ylabel=f"share of all {what}")
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.grid(visible=False, axis="x")
        return png(figure)


def cloud_cover_figure(truth: Floats, predicted: Floats) -> bytes:
    """Cloud cover of N patches, percent, predicted against true."""
    with drawing(*CURVE_SIZE) as (figure, axes):
        axes.plot([0, 100], [0, 100], color=BASELINE_COLOUR, linestyle="--", linewidth=1.3, label="equal")
        error = predicted - truth
        label = f"test patch\nmean error {error.mean():+.1f} points\nmean absolute error {abs(error).mean():.1f} points"
        axes.scatter(truth, predicted, s=22, alpha=0.6, edgecolors="none", label=label)
        axes.set(aspect="equal", xlim=(-2, 102), ylim=(-2, 102))
        axes.set(xlabel="true cloud cover (%)", ylabel="predicted cloud cover (%)")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return png(figure)


def confusion_figure(
    table: npt.NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], unit: str = "pixels"
) -> bytes:
    """Counts (R, C) of a unit by true class (row) and predicted one (column), and as shares of each true class."""
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    texts = {
        f"{unit} (k: thousand, M: million)": [[_short(count) for count in row] for row in table.tolist()],
        "share of the true class": [[f"{share:.1%}" for share in row] for row in shares.tolist()],
    }
    with drawing(WIDTH, 1.5 + 0.62 * len(rows), 1, 2) as (figure, halves):
        for axes, (title, cells) in zip(halves, texts.items(), strict=True):
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axes.set_xticks(range(len(columns)), columns)
            axes.set_yticks(range(len(rows)), rows)
            axes.set(title=title, xlabel="predicted")
            axes.grid(visible=False)
            axes.tick_params(length=0)
            for (y, x), share in np.ndenumerate(shares):
                axes.text(x, y, cells[y][x], ha="center", va="center", color="white" if share > 0.6 else "#1b2430")
        halves[0].set_ylabel("true")
        return png(figure)


def _short(count: int) -> str:
    for limit, unit in ((10_000_000, "M"), (10_000, "k")):
        if count >= limit:
            return f"{count / (limit / 10):.1f} {unit}"
    return str(count)
