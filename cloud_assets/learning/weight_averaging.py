"""Exponential moving average of the weights, which is validated and kept."""

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """Averages weights and batch norm statistics after each step (Polyak & Juditsky 1992).

    The decay grows with the number of steps, as (1 + n) / (10 + n), so that the random first weights do not linger.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        super().__init__(multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, count: Tensor | int) -> None:
        steps = int(count)
        weight = 1 - min(self._decay, (1 + steps) / (10 + steps))
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(averaged, current, weight)
            return
        for target, source in zip(averaged, current, strict=True):  # batch norm counts its batches in integers
            target.copy_(source)
