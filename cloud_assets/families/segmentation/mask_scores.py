"""How good masks are, with hard places apart: thin cloud, edges of clouds, bright ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.composites import TRUE_COLOUR, instrument_of
from cloud_assets.reports.confusion_counts import confusion_counts, ratios
from cloud_assets.reports.predictions import band_channels

if TYPE_CHECKING:
    from cloud_assets.families.segmentation.mask_rules import MaskRule
    from cloud_assets.patches.store import PatchStore

EDGE_PIXELS = 4
"""Cloud pixels with clear ground or nothing within this distance are an edge."""
_BATCH = 8

PLACES: Mapping[str, str] = {
    "recall_thick": "Share of thick cloud that is found, where the truth tells kinds apart.",
    "recall_thin": "Share of thin cloud that is found, where the truth tells kinds apart.",
    "recall_inside": f"Share of cloud pixels more than {EDGE_PIXELS} pixels inside a cloud that is found.",
    "recall_edge": f"Share of cloud pixels up to {EDGE_PIXELS} pixels inside a cloud that is found.",
    "false_on_bright_ground": "Share of bright clear ground that is called cloud.",
}
"""Metrics of hard places, and what they mean."""


@dataclass(frozen=True)
class MaskScores:
    """Counts of pixels, which can be added up over sets of patches."""

    confusion: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(4, np.int64))
    """(4,) true positive, false positive, false negative, true negative."""
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """For each of :data:`PLACES`: pixels called cloud there, and pixels there."""

    def __add__(self, other: MaskScores) -> MaskScores:
        names = {**self.places, **other.places}
        nothing = (0, 0)
        pairs = {name: (self.places.get(name, nothing), other.places.get(name, nothing)) for name in names}
        return MaskScores(
            self.confusion + other.confusion, {name: (a[0] + b[0], a[1] + b[1]) for name, (a, b) in pairs.items()}
        )

    def metrics(self) -> dict[str, float]:
        """``iou``, ``precision``, ``recall`` and the shares of :data:`PLACES`; what is undefined is left out."""
        shares = ratios(self.confusion)
        metrics = {name: float(shares[name]) for name in ("iou", "precision", "recall")}
        metrics |= {name: found / total for name, (found, total) in self.places.items() if total}
        return {name: value for name, value in metrics.items() if np.isfinite(value)}

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "confusion": self.confusion.tolist(),
            "places": {name: list(pair) for name, pair in self.places.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MaskScores:
        """From a file."""
        places = {name: (int(pair[0]), int(pair[1])) for name, pair in content["places"].items()}
        return cls(np.array(content["confusion"], np.int64), places)


def score_masks(
    rule: MaskRule, store: PatchStore, indices: npt.NDArray[np.int64], *, bright_ground: float
) -> MaskScores:
    """Applies a rule to patches with truth and counts.

    Args:
        rule: What makes the masks.
        store: The patches.
        indices: Rows of the store.
        bright_ground: Clear pixels of at least this mean visible reflectance are bright.

    Returns:
        Counts over all patches; unlabelled pixels and those that the rule takes for nodata are left out.
    """
    instrument = instrument_of(store.roles[IMAGES])
    channels = band_channels(store.roles[IMAGES], TRUE_COLOUR)
    has_kinds = any((store.masks[row] == THIN_CLOUD).any() for row in indices)
    total = MaskScores()
    for start in range(0, len(indices), _BATCH):
        rows = indices[start : start + _BATCH]
        dn, truth = store.array(IMAGES)[rows], store.masks[rows]
        mask = rule.mask(dn)
        scored = (truth != UNLABELLED) & (mask != UNLABELLED)
        is_cloud, found = np.isin(truth, (THICK_CLOUD, THIN_CLOUD)), np.isin(mask, (THICK_CLOUD, THIN_CLOUD))
        inside = _inside(is_cloud)
        bright = instrument.to_physical(dn[:, channels]).mean(axis=1) >= bright_ground
        where = {
            "recall_thick": (truth == THICK_CLOUD) & has_kinds,
            "recall_thin": truth == THIN_CLOUD,
            "recall_inside": inside,
            "recall_edge": is_cloud & ~inside,
            "false_on_bright_ground": ~is_cloud & bright,
        }
        places = {
            name: (int((found & place & scored).sum()), int((place & scored).sum())) for name, place in where.items()
        }
        total += MaskScores(confusion_counts(is_cloud[scored], found[scored]), places)
    return total


def _inside(is_cloud: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Cloud pixels (N, H, W) farther than the edge's width from anything else; the patch's own border is no edge."""
    from scipy.ndimage import binary_erosion

    inside = [binary_erosion(patch, iterations=EDGE_PIXELS, border_value=1) for patch in is_cloud]
    return np.asarray(inside, bool)
