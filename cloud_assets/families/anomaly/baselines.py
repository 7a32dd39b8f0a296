"""Rules without learning that an anomaly model has to beat: brightness and contrast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.predictions import instrument_of

if TYPE_CHECKING:
    from cloud_assets.patches.store import PatchStore

Brightness = npt.NDArray[np.float32]
_WINDOW = 7
_WHITE = 0.4


def _mean(brightness: Brightness, valid: npt.NDArray[np.bool_]) -> float:
    return float(brightness[valid].mean())


def _high_percentile(brightness: Brightness, valid: npt.NDArray[np.bool_]) -> float:
    return float(np.percentile(brightness[valid], 95))


def _local_contrast(brightness: Brightness, valid: npt.NDArray[np.bool_]) -> float:
    from scipy.ndimage import uniform_filter

    mean = uniform_filter(brightness, _WINDOW)
    variance = uniform_filter(brightness * brightness, _WINDOW) - mean * mean
    return float(np.sqrt(np.clip(variance, 0, None))[valid].mean())


RULES: Final[Mapping[str, Callable[[Brightness, npt.NDArray[np.bool_]], float]]] = MappingProxyType(
    {"mean brightness": _mean, "95th percentile": _high_percentile, "local contrast": _local_contrast}
)
"""Rules by name; each gives a picture's score from its brightness (H, W) and what is valid of it."""


def baseline_scores(store: PatchStore, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """What each rule says about pictures.

    Args:
        store: The pictures.
        rows: (N,) which of them.

    Returns:
        (N,) scores by the rule's name, 0 for pictures without a valid pixel.
    """
    instrument = instrument_of(store.roles[IMAGES])
    scores = {name: np.zeros(len(rows)) for name in RULES}
    for place, row in enumerate(rows):
        dn = store.array(IMAGES)[row]
        valid = instrument.valid(dn)
        brightness = np.clip(instrument.to_physical(dn).mean(axis=0), 0, _WHITE) * valid
        if valid.any():
            for name, rule in RULES.items():
                scores[name][place] = rule(brightness, valid)
    return scores
