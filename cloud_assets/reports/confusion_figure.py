"""Figure of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cloud_assets.reports.style import figure_style, png

_WIDTH = 10.4


def confusion_figure(
    table: npt.NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], unit: str = "pixels"
) -> bytes:
    """A confusion matrix as counts and as shares of each true class.

    Args:
        table: (R, C) counts by true class (row) and predicted class (column).
        rows: Names of the true classes.
        columns: Names of the predicted classes.
        unit: What is counted.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    texts = {
        f"{unit} (k: thousand, M: million)": [[_short(count) for count in row] for row in table.tolist()],
        "share of the true class": [[f"{share:.1%}" for share in row] for row in shares.tolist()],
    }
    with figure_style():
        figure = Figure(figsize=(_WIDTH, 1.5 + 0.62 * len(rows)))
        for position, (axes, (title, cells)) in enumerate(zip(figure.subplots(1, 2), texts.items(), strict=True)):
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axes.set_title(title)
            axes.set_xticks(range(len(columns)), columns)
            axes.set_yticks(range(len(rows)), rows)
            axes.set_xlabel("predicted")
            if not position:
                axes.set_ylabel("true")
            axes.grid(visible=False)
            axes.tick_params(length=0)
            for y, line in enumerate(cells):
                for x, text in enumerate(line):
                    axes.text(x, y, text, ha="center", va="center", color="white" if shares[y, x] > 0.6 else "#1b2430")
        return png(figure)


def _short(count: int) -> str:
    for limit, unit in ((10_000_000, "M"), (10_000, "k")):
        if count >= limit:
            return f"{count / (limit / 10):.1f} {unit}"
    return str(count)
