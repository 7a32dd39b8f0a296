"""Bar charts of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud_assets.reports.formatting import format_number, readable
from cloud_assets.reports.style import BASELINE_COLOUR, SERIES_COLOURS, figure_style, png

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.reports.gate import Gate


def ranking_bars(table: pd.DataFrame, gate: Gate) -> bytes:
    """Bars of the gate's metric, variants above baselines, with the gate's minimum as a line.

    Args:
        table: Columns ``name``, ``kind`` ("variant" or "baseline") and the gate's metric.
        gate: The gate.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = table[table[gate.metric].notna()]
    names, values, kinds = shown["name"].tolist(), shown[gate.metric].tolist(), shown["kind"].tolist()
    colours = {"variant": SERIES_COLOURS[0], "baseline": BASELINE_COLOUR}
    with figure_style():
        figure = Figure(figsize=(8.6, 1.3 + 0.46 * len(shown)))
        axes = figure.add_subplot()
        bars = axes.barh(names, values, color=[colours[kind] for kind in kinds], height=0.66)
        axes.bar_label(bars, [format_number(float(value)) for value in values], padding=4)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
        axes.set_xlabel(f"{readable(gate.metric)} (test split; {'more' if gate.mode == 'max' else 'less'} is better)")
        handles = [Patch(color=colours[kind], label=kind) for kind in dict.fromkeys(kinds)]
        if gate.minimum is not None:
            axes.axvline(gate.minimum, color=SERIES_COLOURS[1], linestyle="--", linewidth=1.3)
            handles.append(Patch(color=SERIES_COLOURS[1], label=f"the gate's minimum, {gate.minimum:g}"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        return png(figure)


def scene_bars(per_scene: pd.DataFrame, most: int = 30) -> bytes | None:
    """Bars of each scene's IoU, worst first.

    Args:
        per_scene: Columns ``group``, ``iou`` and ``cloud_truth_percentage``, worst first.
        most: How many scenes are shown at most.

    Returns:
        A PNG image; None if no scene has an IoU.
    """
    from matplotlib.figure import Figure

    defined = per_scene[per_scene["iou"].notna()]
    if defined.empty:
        return None
    shown = defined.head(most)
    titles = [_shortened(str(group)) for group in shown["group"]]
    values = shown["iou"].tolist()
    labels = [
        f"{value:.3f}   ({cover:.0f} % cloud)"
        for value, cover in zip(values, shown["cloud_truth_percentage"], strict=True)
    ]
    with figure_style():
        figure = Figure(figsize=(8.6, 0.9 + 0.27 * len(shown)))
        axes = figure.add_subplot()
        bars = axes.barh(range(len(shown)), values, color=SERIES_COLOURS[0], height=0.7)
        axes.bar_label(bars, labels, padding=4, fontsize=9)
        axes.set_yticks(range(len(shown)), titles, fontsize=9)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.5)  # room for the labels of full bars
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.grid(visible=False, axis="y")
        rest = f"; the {len(shown)} worst of {len(defined)}" if len(defined) > most else ""
        axes.set_xlabel(f"IoU of cloud{rest}")
        return png(figure)


def _shortened(name: str, most: int = 44) -> str:
    """A name that fits beside a bar: its end tells scenes apart, so the middle is cut."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"
