"""The decision threshold for cloud, chosen on validation."""

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import UNLABELLED
from cloud_assets.prediction.card import Threshold

_STEPS = 100
"""Thresholds are multiples of 1 / 100."""


class ThresholdSearch:
    """Finds the probability above which calling a pixel cloud gives the largest cloud IoU.

    Pixels are counted in a histogram over the candidate thresholds, so one pass over the data serves all of them.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, _STEPS + 1), np.int64)

    def update(self, probability: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8]) -> None:
        """Counts some pixels.

        Args:
            probability: Cloud probability, any shape, 0…1.
            truth: 1 cloud, 0 not, 255 unlabelled; same shape.
        """
        labelled = truth != UNLABELLED
        # Number of candidate thresholds that do not exceed the probability: it is cloud for exactly those.
        candidates = np.arange(1, _STEPS + 1, dtype=np.float32) / np.float32(_STEPS)
        place = np.searchsorted(candidates, probability[labelled], side="right")
        for value in (0, 1):
            self._counts[value] += np.bincount(place[truth[labelled] == value], minlength=_STEPS + 1)

    def curve(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Candidate thresholds (T,) and the cloud IoU (T,) at each; 0 where there is no cloud at all."""
        at_or_above = self._counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:_STEPS]
        false_positive, true_positive = at_or_above.astype(np.float64)
        cloud = float(self._counts[1].sum())
        union = cloud + false_positive
        iou = np.divide(true_positive, union, out=np.zeros_like(union), where=union > 0)
        return np.arange(1, _STEPS) / _STEPS, iou

    def best(self) -> tuple[Threshold, float]:
        """The best threshold and its cloud IoU; of several as good, the one nearest to 0.5."""
        thresholds, iou = self.curve()
        if self._counts[1].sum() == 0:
            method = "0.5, for want of cloud in the validation split"
            return Threshold(value=0.5, method=method, unit="cloud probability"), 0.0
        best = np.flatnonzero(iou == iou.max())
        chosen = best[np.argmin(np.abs(thresholds[best] - 0.5))]
        method = "largest cloud IoU on the validation split"
        value = float(thresholds[chosen])
        return Threshold(value=value, method=method, unit="cloud probability"), float(iou[chosen])
