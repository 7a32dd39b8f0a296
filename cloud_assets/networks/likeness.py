"""Two numbers of a picture that gain and offset of a band do not change: how alike bands are, and how smooth it is."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SQUARE, _BLOCK = 4, 8  # sides, pixels, of what contrast is measured in, and of the means that bands are compared by
_EVEN = 0.5  # a band that the preprocessing could not bring to this deviation shows nothing


class Likeness(NamedTuple):
    """What is measured of N pictures."""

    numbers: Tensor  # (N, 2) correlation between the bands (Fisher's z) and smoothness
    local: Tensor  # (N, H / 8, W / 8) what each bright place adds to the correlation
    is_even: Tensor  # (N,) there is nothing to see, neither ground nor cloud


class LikenessNetwork(nn.Module):
    """Learns what is usual: centre and mean deviation of both numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(2))
        self.log_deviation = nn.Parameter(torch.zeros(2))

    def measure(self, images: Tensor) -> Likeness:
        """Measures pictures (N, C, H, W) whose bands are standardised; sides are multiples of 8."""
        bands = max(images.shape[1], 2)
        mean = F.avg_pool2d(images, _SQUARE)
        variance = (F.avg_pool2d(images.square(), _SQUARE) - mean.square()).clamp_min(1e-4)
        means = F.avg_pool2d(images, _BLOCK)
        means = means - means.mean(dim=(2, 3), keepdim=True)
        means = means / (means.square().mean(dim=(2, 3), keepdim=True).sqrt() + 1e-3)
        local = (means.sum(dim=1).square() - means.square().sum(dim=1)) / (bands * (bands - 1))
        correlation = local.mean(dim=(1, 2)).clamp(-0.9999, 0.9999)
        is_even = (images.std(dim=(2, 3), correction=0) < _EVEN).any(dim=1)
        local = local * (means.sum(dim=1) > 0)
        return Likeness(torch.stack([correlation.atanh(), -variance.sqrt().mean(dim=(1, 2, 3))], 1), local, is_even)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2) how far both numbers lie above what is usual, in deviations; 1 each where there is nothing to see."""
        found = self.measure(images)
        above = (found.numbers - self.centre) * (-self.log_deviation).exp()
        return torch.where(found.is_even[:, None], torch.ones_like(above), above)
