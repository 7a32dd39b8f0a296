"""The decision threshold for cloud, chosen on validation."""

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import UNLABELLED
from cloud_assets.families.segmentation.recipe import OperatingPoint
from cloud_assets.inference.bundle import Threshold

_STEPS = 100
_CANDIDATES = np.arange(1, _STEPS) / _STEPS  # thresholds that are considered

Curve = npt.NDArray[np.float64]


class ThresholdSearch:
    """Finds the probability above which calling a pixel cloud gives the largest cloud IoU.

    A few validation patches do not tell thresholds apart whose IoU differs by less than it varies from patch to patch.
    So of all thresholds that are not worse than the best by more than one standard error of the difference (jackknife
    over patches), the one nearest to 0.5 is taken; the more patches, the nearer that is to the best itself (the
    one-standard-error rule of Breiman et al. 1984, Classification and Regression Trees).
    """

    def __init__(self) -> None:
        self._patches: list[npt.NDArray[np.int64]] = []

    def update(self, probability: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8]) -> None:
        """Counts the pixels of one patch: cloud probability, and truth of its shape, 1 cloud, 0 not, 255 unlabelled."""
        labelled = truth != UNLABELLED
        # Number of candidates that do not exceed the probability: the pixel is cloud for exactly those.
        place = np.searchsorted(_CANDIDATES.astype(np.float32), probability[labelled], side="right")
        is_cloud = truth[labelled] == 1
        counts = [np.bincount(place[is_cloud == value], minlength=_STEPS) for value in (False, True)]
        self._patches.append(np.stack(counts))

    def curve(self) -> tuple[Curve, Curve]:
        """Candidate thresholds (T,) and the cloud IoU (T,) at each; 0 where there is no cloud at all."""
        return _CANDIDATES, _iou(self._total())

    def best(self) -> tuple[Threshold, float]:
        """The chosen threshold and the cloud IoU with it."""
        total = self._total()
        if total[1].sum() == 0:
            method = "0.5, for want of cloud in the validation split"
            return Threshold(value=0.5, method=method, unit="cloud probability"), 0.0
        iou = _iou(total)
        as_good = np.flatnonzero(iou.max() - iou <= self._standard_error(total, int(iou.argmax())))
        chosen = as_good[np.argmin(np.abs(_CANDIDATES[as_good] - 0.5))]
        method = (
            "nearest to 0.5 of those whose cloud IoU on the validation split is at most one standard error below the "
            f"largest ({iou.max():.4f} at {_CANDIDATES[iou.argmax()]:.2f})"
        )
        value = float(_CANDIDATES[chosen])
        return Threshold(value=value, method=method, unit="cloud probability"), float(iou[chosen])

    def operating_points(self, measured_on: str) -> dict[str, OperatingPoint]:
        """Thresholds for three purposes: the chosen one, and those of the largest F2 and F0.5 below and above it.

        F-beta weighs recall beta times as much as precision (van Rijsbergen 1979, Information Retrieval).
        ``measured_on`` says what the counted labels are, for the card. Nothing without any cloud.
        """
        if self._total()[1].sum() == 0:
            return {}
        precision, recall = self.rates()
        chosen = round(self.best()[0].value * _STEPS) - 1
        places = {
            "sensitive": int(_f_score(precision, recall, 2.0)[: chosen + 1].argmax()),
            "balanced": chosen,
            "strict": chosen + int(_f_score(precision, recall, 0.5)[chosen:].argmax()),
        }
        return {
            name: OperatingPoint(
                threshold=float(_CANDIDATES[place]),
                precision=round(float(precision[place]), 4),
                recall=round(float(recall[place]), 4),
                measured_on=measured_on,
            )
            for name, place in places.items()
        }

    def rates(self) -> tuple[Curve, Curve]:
        """Precision and recall (T,) at each candidate; 0 where nothing is called cloud, or there is none."""
        total = self._total()
        false_positive, true_positive = _at_or_above(total)
        return (
            true_positive / np.maximum(true_positive + false_positive, 1),
            true_positive / max(int(total[1].sum()), 1),
        )

    def _total(self) -> npt.NDArray[np.int64]:
        return np.sum(self._patches, axis=0) if self._patches else np.zeros((2, _STEPS), np.int64)

    def _standard_error(self, total: npt.NDArray[np.int64], best: int) -> Curve:
        """Standard error (T,) of how much worse than the best each threshold is."""
        count = len(self._patches)
        if count < 2:
            return np.zeros(len(_CANDIDATES))
        without_one = np.stack([_iou(total - patch) for patch in self._patches])
        loss = without_one[:, [best]] - without_one
        error: Curve = np.sqrt((count - 1) * loss.var(axis=0))
        return error


def _at_or_above(counts: npt.NDArray[np.int64]) -> tuple[Curve, Curve]:
    """Clear and cloudy pixels (T,) that each candidate calls cloud."""
    clear, cloudy = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].astype(np.float64)
    return clear, cloudy


def _f_score(precision: Curve, recall: Curve, beta: float) -> Curve:
    score: Curve = (1 + beta**2) * precision * recall / np.maximum(beta**2 * precision + recall, 1e-12)
    return score


def _iou(counts: npt.NDArray[np.int64]) -> Curve:
    """Cloud IoU (T,) at each candidate from the counts (2, T + 1) of clear and cloudy pixels by place."""
    false_positive, true_positive = _at_or_above(counts)
    union = float(counts[1].sum()) + false_positive
    iou: Curve = np.divide(true_positive, union, out=np.zeros_like(union), where=union > 0)
    return iou
