"""Suspicious masks, by confident learning (see :mod:`cloud_assets.reports.doubts`) pixel by pixel.

Probabilities have to be at least 0.9, for a patch has many pixels that are merely difficult; what a patch is suspected
of is then the part of its cloud, labelled or seen, that is contradicted in solid areas, not along borders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import binary_opening

from cloud_assets.bands import UNLABELLED, cloudy
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import Doubt, Doubts, pictures, title
from cloud_assets.reports.predictions import predict_patches

LEVELS = 255  # probabilities of pixels are kept as whole numbers from 0 to this
_SURE = 0.9
_SOLID = 5  # side of the square that a contradicted area must be able to hold, pixels
_SMALL_AREA = 0.02
"""Added to the area that a contradiction is a share of: a speck of cloud in a clear patch is not a wrong mask."""

Truth = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PatchDoubt:
    """What speaks against a patch's mask."""

    suspicion: float  # 0 to 1
    contradicted_percentage: float  # share of the labelled pixels that are contradicted in solid areas
    contradicted: npt.NDArray[np.bool_]  # (H, W) where


def quantised(probability: npt.NDArray[np.float32]) -> Levels:
    """Probabilities in [0, 1] as whole numbers from 0 to 255."""
    return np.rint(np.nan_to_num(probability) * LEVELS).astype(np.uint8)


def pixel_thresholds(truths: Sequence[Truth], levels: Sequence[Levels]) -> tuple[float, float]:
    """How sure the model is on average of clear where clear is the label, and of cloud where cloud is.

    Of masks (H, W) of cloud codes, 255 unlabelled, and the model's cloud probability of the same pixels, 0 to 255; at
    least 0.9 each, 1 for a class that no label has.
    """
    sums, counts = np.zeros(2), np.zeros(2)
    for truth, level in zip(truths, levels, strict=True):
        is_cloud = cloudy(truth)
        for number, chosen in enumerate(((truth != UNLABELLED) & ~is_cloud, is_cloud)):
            found = level[chosen].astype(np.float64).sum() / LEVELS
            counts[number] += chosen.sum()
            sums[number] += found if number else chosen.sum() - found
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return max(_SURE, float(means[0])), max(_SURE, float(means[1]))


def doubt_mask(truth: Truth, level: Levels, thresholds: tuple[float, float]) -> PatchDoubt:
    """How much of a mask (H, W) the model confidently contradicts; arguments as of :func:`pixel_thresholds`."""
    is_cloud, labelled = cloudy(truth), truth != UNLABELLED
    probability = level.astype(np.float32) / LEVELS
    says_cloud, says_clear = probability >= thresholds[1], 1 - probability >= thresholds[0]
    against = labelled & np.where(is_cloud, says_clear, says_cloud)
    solid = np.asarray(binary_opening(against, np.ones((_SOLID, _SOLID), bool)), bool)
    count, area = int(solid.sum()), max(1, int(labelled.sum()))
    at_stake = int((labelled & (is_cloud | (probability >= 0.5))).sum()) + _SMALL_AREA * area
    # A clear patch under a mask of cloud, or the reverse, is all at stake.
    return PatchDoubt(count / max(at_stake, count, 1), 100 * count / area, solid)


def doubts(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], progress: bool) -> Doubts:
    """Compares masks with confident predictions, pixel by pixel."""
    batches = predict_patches(predictor, store, rows, batch_size=1, title="Comparing masks", progress=progress)
    levels = {
        int(batch.indices[0]): np.where(
            batch.answer["mask"][0] == UNLABELLED, np.uint8(0), quantised(batch.answer["cloud_probability"][0])
        )
        for batch in batches
    }
    truths = {row: np.asarray(store.masks[row]) for row in levels}
    thresholds = pixel_thresholds(list(truths.values()), list(levels.values()))
    found = {row: doubt_mask(truths[row], level, thresholds) for row, level in levels.items()}
    table = pd.DataFrame(
        {
            "store_row": list(found),
            "suspicion": [doubt.suspicion for doubt in found.values()],
            "contradicted_percentage": [doubt.contradicted_percentage for doubt in found.values()],
            "cloud_label_percentage": store.index["cloud_percentage"].to_numpy()[list(found)],
            "cloud_model_percentage": [100 * float((level > LEVELS / 2).mean()) for level in levels.values()],
        }
    )

    def picture(row: int) -> Doubt:
        return Doubt(
            title(store, row, found[row].suspicion),
            pictures(store, row),
            truths[row],
            levels[row].astype(np.float32) / np.float32(LEVELS),
            found[row].contradicted,
        )

    return Doubts(table, picture)
