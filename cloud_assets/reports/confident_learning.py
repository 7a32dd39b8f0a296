"""Which labels are probably wrong, by confident learning.

Northcutt, Jiang & Chuang 2021, *Confident Learning: Estimating Uncertainty in Dataset Labels*, JAIR 70,
https://doi.org/10.1613/jair.1.12125: a sample counts as confidently of another class than its label if the model's
probability for that class reaches the mean probability that the model gives that class where it is the label. For masks
the same is done pixel by pixel, with probabilities of at least 0.9, for a patch has many pixels that are merely
difficult; what a patch is suspected of is then the part of its cloud, labelled or seen, that is contradicted in solid
areas. Lines of pixels do not count: borders are drawn inexactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED

LEVELS = 255
"""Probabilities of pixels are kept as whole numbers from 0 to this."""
_SURE = 0.9
_SOLID = 5
"""Side of the square that a contradicted area must be able to hold, pixels."""
_SMALL_AREA = 0.02
"""Added to the area that a contradiction is a share of: a speck of cloud in a clear patch is not a wrong mask."""

Truth = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PatchDoubt:
    """What speaks against a patch's mask."""

    suspicion: float
    """0 to 1."""
    contradicted_percentage: float
    """Share of the labelled pixels that are contradicted in solid areas."""
    contradicted: npt.NDArray[np.bool_]
    """(H, W) where."""


def quantised(probability: npt.NDArray[np.float32]) -> Levels:
    """Probabilities in [0, 1] as whole numbers from 0 to 255."""
    return np.rint(np.nan_to_num(probability) * LEVELS).astype(np.uint8)


def pixel_thresholds(truths: Sequence[Truth], levels: Sequence[Levels]) -> tuple[float, float]:
    """How sure the model is on average of clear where clear is the label, and of cloud where cloud is.

    Args:
        truths: Masks (H, W) of cloud codes, 255 unlabelled.
        levels: The model's cloud probability of the same pixels, 0 to 255.

    Returns:
        Thresholds of the probability of clear and of cloud, at least 0.9 each; 1 for a class that no label has.
    """
    sums, counts = np.zeros(2), np.zeros(2)
    for truth, level in zip(truths, levels, strict=True):
        is_cloud = _is_cloud(truth)
        for number, chosen in enumerate(((truth != UNLABELLED) & ~is_cloud, is_cloud)):
            found = level[chosen].astype(np.float64).sum() / LEVELS
            counts[number] += chosen.sum()
            sums[number] += found if number else chosen.sum() - found
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return max(_SURE, float(means[0])), max(_SURE, float(means[1]))


def doubt_mask(truth: Truth, level: Levels, thresholds: tuple[float, float]) -> PatchDoubt:
    """How much of a mask the model confidently contradicts.

    Args:
        truth: (H, W) cloud codes, 255 unlabelled.
        level: (H, W) the model's cloud probability, 0 to 255.
        thresholds: From :func:`pixel_thresholds`.

    Returns:
        The doubt.
    """
    from scipy.ndimage import binary_opening

    is_cloud, labelled = _is_cloud(truth), truth != UNLABELLED
    probability = level.astype(np.float32) / LEVELS
    says_cloud, says_clear = probability >= thresholds[1], 1 - probability >= thresholds[0]
    against = labelled & np.where(is_cloud, says_clear, says_cloud)
    solid = np.asarray(binary_opening(against, np.ones((_SOLID, _SOLID), bool)), bool)
    count, area = int(solid.sum()), max(1, int(labelled.sum()))
    at_stake = int((labelled & (is_cloud | (probability >= 0.5))).sum()) + _SMALL_AREA * area
    # A clear patch under a mask of cloud, or the reverse, is all at stake.
    return PatchDoubt(count / max(at_stake, count, 1), 100 * count / area, solid)


def doubt_classes(
    probability: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """How much the model confidently contradicts the labels of whole samples.

    Args:
        probability: (N, K) of each class.
        labels: (N,) class numbers.

    Returns:
        (N,) the normalised margin of Northcutt et al., the best confident class' probability less the label's, 0 where
        the model is not confident of another class; and (N,) the class that the model says.
    """
    classes = probability.shape[1]
    means = [
        probability[labels == number, number].mean() if (labels == number).any() else 1.0 for number in range(classes)
    ]
    confident = np.where(probability >= np.asarray(means), probability, -np.inf)
    confident[np.arange(len(labels)), labels] = -np.inf
    said = confident.argmax(axis=1)
    margin = confident[np.arange(len(labels)), said] - probability[np.arange(len(labels)), labels]
    doubted = np.isfinite(margin) & (margin > 0)
    return np.where(doubted, margin, 0.0), np.where(doubted, said, labels).astype(np.int64)


def _is_cloud(truth: Truth) -> npt.NDArray[np.bool_]:
    return np.isin(truth, (THICK_CLOUD, THIN_CLOUD))
