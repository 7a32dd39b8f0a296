"""How every figure of the project looks: one set of colours, one font size, safe for colour-blind readers.

The hues follow Okabe and Ito's palette (https://jfly.uni-koeln.de/color/); neighbours also differ in lightness, so the
maps survive a grey printer.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
"""Colour of everything that a trivial baseline reaches."""

_DPI = 110
_SETTINGS: dict[str, Any] = {
    "figure.dpi": _DPI,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e8ed",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.9,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "image.interpolation": "nearest",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Applies the project's look to the figures made inside the block, and to nothing else."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {**_SETTINGS, "axes.prop_cycle": cycler(color=SERIES_COLOURS)}
    with mpl.rc_context(settings):
        yield


def png(figure: Figure) -> bytes:
    """A figure as PNG image. Call it inside the :func:`figure_style` block that made the figure."""
    buffer = io.BytesIO()
    # No time stamp and no version: equal figures are equal files.
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
