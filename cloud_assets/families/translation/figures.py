"""Figures of predicted and true reflectance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.reports.figures import BASELINE_COLOUR, SERIES_COLOURS, figure_style, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Floats = npt.NDArray[np.float32]

_SIDE = 1.75
_RADAR_RANGE = (-25.0, 0.0)
_SMALLEST_RANGE = 0.05
_ERROR_RANGE = 0.1


@dataclass(frozen=True)
class Example:
    """A patch with what the model made of it."""

    title: str
    """One line: which patch, how good."""
    radar: Floats
    """(C, H, W) backscatter in dB."""
    made: Floats
    """(K, H, W) predicted reflectance, NaN without radar."""
    true: Floats
    """(K, H, W) true reflectance."""
    valid: npt.NDArray[np.bool_]
    """(H, W)."""
    composites: Mapping[str, list[int]]
    """Bands to show as red, green and blue, by heading."""
    ndvi: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None
    """NDVI of the predicted and of the true reflectance, (H, W) each."""


def example_panels(examples: Sequence[Example]) -> bytes:
    """One row a patch: radar, predicted and true in each composite, NDVI, error.

    Args:
        examples: The patches, at least one; all with the same composites.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    columns = 2 + 2 * len(examples[0].composites) + (0 if examples[0].ndvi is None else 2)
    with figure_style():
        figure = Figure(figsize=(_SIDE * columns, (_SIDE + 0.72) * len(examples)))
        rows: Any = figure.subfigures(len(examples), 1, squeeze=False)
        for row, example in zip(rows[:, 0], examples, strict=True):
            _panel_row(row, example, columns)
        return png(figure)


def _panel_row(row: SubFigure, example: Example, columns: int) -> None:
    row.suptitle(example.title, x=0.008, ha="left", fontsize=10.5, fontweight="bold")
    panels: list[tuple[str, npt.NDArray[Any], dict[str, Any]]] = [("radar", radar_picture(example.radar), {})]
    for heading, channels in example.composites.items():
        made, true = stretched_alike(example.made[channels], example.true[channels], example.valid)
        panels += [(f"made: {heading}", made, {}), (f"true: {heading}", true, {})]
    if example.ndvi is not None:
        scale = {"cmap": "BrBG", "vmin": -1, "vmax": 1}
        for name, index in zip(("made: NDVI", "true: NDVI"), example.ndvi, strict=True):
            panels.append((name, np.where(example.valid, index, np.nan), scale))
    error = np.where(example.valid, np.abs(example.made - example.true).mean(axis=0), np.nan)
    panels.append((f"error (0 to {_ERROR_RANGE:g})", error, {"cmap": "magma", "vmin": 0, "vmax": _ERROR_RANGE}))
    all_axes: Any = row.subplots(1, columns)
    for axes, (heading, picture, options) in zip(all_axes, panels, strict=True):
        _framed(axes)
        axes.set_title(heading, fontsize=8.5)
        axes.imshow(picture, **options)


def radar_picture(radar: Floats) -> Floats:
    """(C, H, W) dB -> (H, W, 3): VV red and blue, VH green; one band grey."""
    low, high = _RADAR_RANGE
    shown = np.clip((np.nan_to_num(radar, nan=low, neginf=low) - low) / (high - low), 0, 1)
    return np.ascontiguousarray(np.moveaxis(shown[[0, -1, 0]], 0, -1), np.float32)


def stretched_alike(made: Floats, true: Floats, valid: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Two (3, H, W) reflectances as pictures (H, W, 3), both stretched by the true one's 1st to 99th percentile."""
    if not valid.any():
        blank = np.full((*valid.shape, 3), 0.5, np.float32)
        return blank, blank
    low, high = np.percentile(true[:, valid], [1, 99])
    span = max(high - low, _SMALLEST_RANGE)
    pictures = [np.where(valid, np.clip((part - low) / span, 0, 1), 0.5) for part in (made, true)]
    first, second = (np.moveaxis(picture, 0, -1).astype(np.float32) for picture in pictures)
    return first, second


def band_histograms(histograms: npt.NDArray[np.int64], bands: Sequence[str]) -> bytes:
    """Distributions of predicted and true reflectance, one panel a band.

    Args:
        histograms: (2, K, bins) pixels by reflectance from 0 to 1, predicted and true.
        bands: Names of the K bands.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    bins = histograms.shape[2]
    centres = (np.arange(bins) + 0.5) / bins
    total = np.maximum(histograms.sum(axis=2, keepdims=True), 1)
    with figure_style():
        figure = Figure(figsize=(2.6 * len(bands) + 0.6, 3.1))
        panels: Any = np.atleast_1d(figure.subplots(1, len(bands)))
        for band, (axes, name) in enumerate(zip(panels, bands, strict=True)):
            made, true = (histograms / total)[:, band]
            axes.fill_between(centres, true, color=BASELINE_COLOUR, alpha=0.6, linewidth=0, label="true")
            axes.plot(centres, made, color=SERIES_COLOURS[1], linewidth=1.4, label="made")
            seen = np.flatnonzero(np.cumsum(true) < 0.999)
            axes.set_xlim(0, min(1, 1.25 * centres[seen[-1]] + 0.02) if len(seen) else 1)
            axes.set_title(name)
            axes.set_xlabel("reflectance")
            axes.set_yticks([])
        panels[0].legend()
        return png(figure)


def ndvi_scatter(histogram: npt.NDArray[np.int64]) -> bytes | None:
    """Predicted against true NDVI.

    Args:
        histogram: (bins, bins) pixels by true and predicted NDVI from -1 to 1.

    Returns:
        A PNG image; None if no pixel was counted.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    if not histogram.any():
        return None
    with figure_style():
        figure = Figure(figsize=(5.4, 4.4))
        axes = figure.add_subplot()
        shown = np.where(histogram > 0, histogram, np.nan).T
        image = axes.imshow(shown, origin="lower", extent=(-1, 1, -1, 1), norm=LogNorm(), cmap="viridis")
        axes.plot([-1, 1], [-1, 1], color=SERIES_COLOURS[1], linestyle="--", linewidth=1.2, label="equal")
        axes.set_xlabel("true NDVI")
        axes.set_ylabel("NDVI of the made picture")
        axes.legend(loc="upper left")
        figure.colorbar(image, ax=axes, label="pixels")
        return png(figure)


def quality_curve(history: Sequence[Mapping[str, float]], best_epoch: int) -> bytes | None:
    """PSNR on validation by epoch, and how strongly the pictures answer to their input.

    Returns:
        A PNG image; None without a history.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    series = {"val_psnr": "PSNR (dB)", "val_response": "difference between places, made / true"}
    shown = {name: title for name, title in series.items() if any(name in row for row in history)}
    if not shown:
        return None
    epochs = np.arange(1, len(history) + 1)
    with figure_style():
        figure = Figure(figsize=(8.6, 3.4))
        panels: Any = np.atleast_1d(figure.subplots(1, len(shown)))
        for axes, (name, title) in zip(panels, shown.items(), strict=True):
            axes.plot(epochs, [row.get(name, np.nan) for row in history], marker="o", markersize=3)
            axes.axvline(best_epoch + 1, color="#2b2b2b", linestyle="--", linewidth=1.1, label="weights kept")
            axes.set_xlabel("epoch")
            axes.set_ylabel(title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panels[0].legend()
        return png(figure)


def _framed(axes: Axes) -> None:
    """No ticks and no grid over a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
