"""Features of a patch that drift is measured on: training patches, new patches and scene windows alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.patches.preprocessing import Preprocessing

_DARK = 2
_SMALLEST = 1e-3
_ENOUGH_PIXELS = 16_000
"""Percentiles of every fourth pixel of a patch of 256 x 256 are those of all, at a quarter of the cost."""


def image_features(dn: npt.NDArray[Any], preprocessing: Preprocessing, names: Sequence[str] = ()) -> dict[str, float]:
    """Describes the pixels of a patch, band by band, in physical units.

    ``mean_<band>`` and ``std_<band>``; ``dark_<band>``, the 2nd percentile: an offset shows in dark pixels first, for
    clouds move means far more than calibration does; ``colour_<band>``, how far the band's dark pixels are above those
    of all bands together (logarithm of the ratio; difference for decibels), in which illumination cancels out.

    Args:
        dn: (C, H, W) digital numbers, bands in the order of ``preprocessing``.
        preprocessing: What the numbers mean, and which pixels hold no data.
        names: What to call the bands; default: as ``preprocessing`` does.

    Returns:
        Four numbers a band; empty if no pixel is valid.
    """
    physical, valid = preprocessing.to_physical(dn)
    if not valid.any():
        return {}
    pixels = physical[:, valid]
    pixels = pixels[:, :: max(1, pixels.shape[1] // _ENOUGH_PIXELS)].astype(np.float64)
    dark = np.percentile(pixels, _DARK, axis=1)
    scale = np.log(np.maximum(dark, _SMALLEST)) if preprocessing.profile.unit == "reflectance" else dark
    parts = {
        "mean": pixels.mean(axis=1),
        "std": pixels.std(axis=1),
        "dark": dark,
        "colour": scale - scale.mean(),
    }
    # One band has no colour.
    shown = parts if len(pixels) > 1 else {name: values for name, values in parts.items() if name != "colour"}
    return {
        f"{name}_{band}": _five_digits(value)
        for name, values in shown.items()
        for band, value in zip(names or preprocessing.bands, values, strict=True)
    }


def rounded(**values: float) -> dict[str, float]:
    """Features with five digits, as cards hold them: else rounding alone would set new ones apart.

    Returns:
        The features; nothing if one of them is not a finite number.
    """
    finite = all(np.isfinite(value) for value in values.values())
    return {name: _five_digits(value) for name, value in values.items()} if finite else {}


def _five_digits(value: float) -> float:
    return float(f"{value:.5g}")
