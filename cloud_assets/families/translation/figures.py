"""Figures of predicted and true reflectance, of reports and of trainings."""

import io
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure

from cloud_assets.bands import positions_of, vegetation_positions
from cloud_assets.families.translation.batches import Pairs
from cloud_assets.families.translation.metrics import TranslationScores, ndvi
from cloud_assets.families.translation.recipe import TranslationEvaluation
from cloud_assets.inference.predictor import Predictor
from cloud_assets.reports.figures import (
    BASELINE_COLOUR,
    SERIES_COLOURS,
    curves_by_epoch,
    drawing,
    figure_style,
    png,
    without_ticks,
)
from cloud_assets.reports.report import read_captions

Floats = npt.NDArray[np.float32]

CAPTIONS = read_captions(__package__)
_COMPOSITES = {
    "true colour": ("red", "green", "blue"),
    "NIR, red, green": ("nir", "red", "green"),
    "SWIR, NIR, red edge": ("swir16", "nir", "rededge071"),
}
_QUALITY = {"PSNR (dB)": ["val_psnr"], "difference between places, made / true": ["val_response"]}
_SIDE = 1.75
_RADAR_RANGE = (-25.0, 0.0)
_SMALLEST_RANGE = 0.05
_ERROR_RANGE = 0.1
_GAP = 4  # pixels between the panels of a training's sample pictures


def translation_figures(
    recipe: TranslationEvaluation, predictor: Predictor, pairs: Pairs, scores: TranslationScores, patches: pd.DataFrame
) -> dict[str, bytes | None]:
    """All figures of a report: PNG images by name; None for those that the data do not allow."""
    places = np.unique(np.linspace(0, len(patches) - 1, min(recipe.examples, len(patches))).astype(int))
    record = predictor.card.training
    return {
        "examples": _example_panels(predictor, pairs, patches.iloc[places].to_dict("records")),
        "histograms": _band_histograms(scores.histograms, pairs.target.bands),
        "ndvi": _ndvi_scatter(scores.ndvi_histogram),
        "quality": curves_by_epoch(record.history, record.best_epoch, _QUALITY),
    }


def _example_panels(predictor: Predictor, pairs: Pairs, patches: Sequence[Mapping[Hashable, Any]]) -> bytes:
    """One row a patch: radar, predicted and true in each composite, NDVI, error."""
    profile, bands = pairs.target.profile, pairs.target.bands
    found = {heading: positions_of(profile, bands, names) for heading, names in _COMPOSITES.items()}
    composites = {heading: channels for heading, channels in found.items() if channels}
    columns = 2 + 2 * len(composites) + (2 if vegetation_positions(profile, bands) else 0)
    with figure_style():
        figure = Figure(figsize=(_SIDE * columns, (_SIDE + 0.72) * len(patches)))
        rows: Any = figure.subfigures(len(patches), 1, squeeze=False)
        for row, patch in zip(rows[:, 0], patches, strict=True):
            _panel_row(row, patch, predictor, pairs, composites, columns)
        return png(figure)


def _panel_row(
    figure: SubFigure,
    patch: Mapping[Hashable, Any],
    predictor: Predictor,
    pairs: Pairs,
    composites: Mapping[str, list[int]],
    columns: int,
) -> None:
    row = np.array([patch["store_row"]], np.int64)
    radar = pairs.backscatter(row)
    true, valid = (part[0] for part in pairs.reflectance(row))
    made = predictor.predict(radar)["reflectance"][0]
    title = f"{patch['patch_id']}: gain {patch['psnr_gain']:+.2f} dB, PSNR {patch['psnr']:.2f} dB"
    figure.suptitle(f"{title}, SSIM {patch['ssim']:.3f}", x=0.008, ha="left", fontsize=10.5, fontweight="bold")
    shown = np.nan_to_num(radar[0].astype(np.float32), nan=_RADAR_RANGE[0], neginf=_RADAR_RANGE[0])
    panels: list[tuple[str, npt.NDArray[Any], dict[str, Any]]] = [("radar", coloured(shown, *_RADAR_RANGE), {})]
    for heading, channels in composites.items():
        pictures = _stretched_alike(made[channels], true[channels], valid)
        panels += [(f"{what}: {heading}", part, {}) for what, part in zip(("made", "true"), pictures, strict=True)]
    if vegetation := vegetation_positions(pairs.target.profile, pairs.target.bands):
        scale = {"cmap": "BrBG", "vmin": -1, "vmax": 1}
        for what, part in (("made", made), ("true", true)):
            panels.append((f"{what}: NDVI", np.where(valid, ndvi(part, vegetation), np.nan), scale))
    error = np.where(valid, np.abs(made - true).mean(axis=0), np.nan)
    panels.append((f"error (0 to {_ERROR_RANGE:g})", error, {"cmap": "magma", "vmin": 0, "vmax": _ERROR_RANGE}))
    all_axes: Any = figure.subplots(1, columns)
    for axes, (heading, picture, options) in zip(all_axes, panels, strict=True):
        without_ticks(axes)
        axes.set_title(heading, fontsize=8.5)
        axes.imshow(picture, **options)


def coloured(pixels: Floats, low: float, high: float) -> Floats:
    """The first three bands as red, green, blue (H, W, 3) in [0, 1]; of two bands VV, VH and VV once more."""
    bands = pixels[[0, 1, 2]] if len(pixels) > 2 else pixels[[0, -1, 0]]
    stretched: npt.NDArray[Any] = np.clip((bands - low) / max(high - low, 1e-3), 0, 1)
    return np.ascontiguousarray(np.moveaxis(stretched, 0, -1), np.float32)


def _stretched_alike(made: Floats, true: Floats, valid: npt.NDArray[np.bool_]) -> list[Floats]:
    """Two (3, H, W) reflectances as pictures (H, W, 3), both stretched by the true one's 1st to 99th percentile."""
    if not valid.any():
        return [np.full((*valid.shape, 3), 0.5, np.float32)] * 2
    low, high = np.percentile(true[:, valid], [1, 99])
    span = max(high - low, _SMALLEST_RANGE)
    pictures = [np.where(valid, np.clip((part - low) / span, 0, 1), 0.5) for part in (made, true)]
    return [np.moveaxis(picture, 0, -1).astype(np.float32) for picture in pictures]


def sample_picture(shown: Sequence[tuple[Floats, ...]]) -> bytes:
    """One row a patch, as a PNG file: radar, made and true picture (C, H, W), each scaled to [-1, 1]."""
    rows = []
    for radar, made, true in shown:
        low, high = np.percentile(true, [1, 99])
        panels = [coloured(radar, -1, 1), coloured(made, low, high), coloured(true, low, high)]
        edged = [np.pad(panel, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=1.0) for panel in panels]
        rows.append(np.concatenate(edged, axis=1))
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, np.concatenate(rows), format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _band_histograms(histograms: npt.NDArray[np.int64], bands: Sequence[str]) -> bytes:
    """Distributions of reflectance from 0 to 1, predicted and true (2, K, bins), one panel a band."""
    bins = histograms.shape[2]
    centres = (np.arange(bins) + 0.5) / bins
    shares = histograms / np.maximum(histograms.sum(axis=2, keepdims=True), 1)
    with drawing(2.6 * len(bands) + 0.6, 3.1, 1, len(bands)) as (figure, panels):
        for band, (axes, name) in enumerate(zip(np.atleast_1d(panels), bands, strict=True)):
            made, true = shares[:, band]
            axes.fill_between(centres, true, color=BASELINE_COLOUR, alpha=0.6, linewidth=0, label="true")
            axes.plot(centres, made, color=SERIES_COLOURS[1], linewidth=1.4, label="made")
            seen = np.flatnonzero(np.cumsum(true) < 0.999)
            axes.set_xlim(0, min(1, 1.25 * centres[seen[-1]] + 0.02) if len(seen) else 1)
            axes.set(title=name, xlabel="reflectance", yticks=[])
        figure.axes[0].legend()
        return png(figure)


def _ndvi_scatter(histogram: npt.NDArray[np.int64]) -> bytes | None:
    """Predicted against true NDVI, both from -1 to 1, of pixels counted by true, then predicted value."""
    if not histogram.any():
        return None
    with drawing(5.4, 4.4) as (figure, axes):
        shown = np.where(histogram > 0, histogram, np.nan).T
        image = axes.imshow(shown, origin="lower", extent=(-1, 1, -1, 1), norm=LogNorm(), cmap="viridis")
        axes.plot([-1, 1], [-1, 1], color=SERIES_COLOURS[1], linestyle="--", linewidth=1.2, label="equal")
        axes.set(xlabel="true NDVI", ylabel="NDVI of the made picture")
        axes.legend(loc="upper left")
        figure.colorbar(image, ax=axes, label="pixels")
        return png(figure)
