"""Interpolation between the weights before and after a training."""

from collections.abc import Mapping

import torch
from torch import Tensor


def between(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], start_share: float) -> dict[str, Tensor]:
    """Mixes two states of one network, weight by weight (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).

    A network that goes on from good weights on little or narrow data forgets what these knew of other places; a mixture
    of both keeps most of that and most of what is new. Running statistics of batch norm are mixed alike.

    Args:
        start: The weights before the training.
        trained: The weights after it, of the same names and shapes.
        start_share: Share of the first, 0 … 1.

    Returns:
        The mixture; what is not floating point (counters) as after the training.
    """
    return {
        name: torch.lerp(tensor, start[name].to(tensor), start_share) if torch.is_floating_point(tensor) else tensor
        for name, tensor in trained.items()
    }
