"""A patch in a few numbers: what drift is measured on, the same for training patches, new patches and scene windows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
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
        f"{name}_{band}": _rounded(value)
        for name, values in shown.items()
        for band, value in zip(names or preprocessing.bands, values, strict=True)
    }


def answer_features(answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
    """Describes what a model said about a patch, whatever its family.

    Args:
        answer: What a predictor returned for some patches.
        place: Which of them.

    Returns:
        Of masks ``cloud_fraction`` and ``confidence`` (mean of how far 2 p is from 1, valid pixels); of classes
        ``confidence`` (the largest probability) and ``expected_class``; of anomaly models ``score``; of translations
        ``predicted_mean``. Empty where the model had nothing to look at.
    """
    if "cloud_probability" in answer:
        mask = answer["mask"][place]
        valid = mask != UNLABELLED
        if not valid.any():
            return {}
        probability = answer["cloud_probability"][place][valid].astype(np.float64)
        cloudy = np.isin(mask[valid], (THICK_CLOUD, THIN_CLOUD))
        values = {"cloud_fraction": float(cloudy.mean()), "confidence": float(np.abs(2 * probability - 1).mean())}
    elif "class_probability" in answer:
        shares = answer["class_probability"][place].astype(np.float64)
        values = {"confidence": float(shares.max()), "expected_class": float(shares @ np.arange(len(shares)))}
    elif "score" in answer:
        values = {"score": float(answer["score"][place])}
    else:
        reflectance = answer["reflectance"][place]
        there = reflectance[np.isfinite(reflectance)]
        values = {"predicted_mean": float(there.mean(dtype=np.float64)) if there.size else float("nan")}
    finite = all(np.isfinite(value) for value in values.values())
    return {name: _rounded(value) for name, value in values.items()} if finite else {}


def _rounded(value: float) -> float:
    """Five digits, in cards and in what is compared with them: else rounding alone would set them apart."""
    return float(f"{value:.5g}")
