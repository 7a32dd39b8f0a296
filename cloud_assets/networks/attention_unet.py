"""The U-Net with additive attention gates on its skips.

O. Oktay et al.: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018, arXiv:1804.03999.
"""

from typing import cast

import torch
from torch import Tensor, nn

from cloud_assets.networks.unet import UNetNetwork


class AttentionGate(nn.Module):
    """Weighs the pixels of a skip by how well they match the coarser features.

    a = upsample(sigmoid(psi(relu(W_x x + W_g g)))), output a * x (equations 1 and 2 of the paper).
    """

    def __init__(self, skip_channels: int, coarse_channels: int, inner_channels: int) -> None:
        super().__init__()
        # The skip is brought to the coarser grid, as in the paper: additive attention there costs a quarter.
        self.from_skip = nn.Conv2d(skip_channels, inner_channels, kernel_size=2, stride=2, bias=False)
        self.from_coarse = nn.Conv2d(coarse_channels, inner_channels, kernel_size=1)
        self.score = nn.Conv2d(inner_channels, 1, kernel_size=1)

    def weights(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Attention (N, 1, 2H, 2W), 0…1, for a skip (N, C, 2H, 2W) and coarser features (N, K, H, W)."""
        score = self.score(torch.relu(self.from_skip(skip) + self.from_coarse(coarse)))
        return nn.functional.interpolate(torch.sigmoid(score), scale_factor=2.0, mode="bilinear", align_corners=False)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """The weighted skip, of the skip's shape."""
        return skip * self.weights(skip, coarse)


class AttentionUNetNetwork(UNetNetwork):
    """U-Net whose skips pass through attention gates; arguments as for :class:`UNetNetwork`."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 32, depth: int = 3) -> None:
        super().__init__(in_channels, out_channels, width, depth)
        self.gates = nn.ModuleList(
            AttentionGate(channels, 2 * channels, max(channels // 2, 1)) for channels in reversed(self.widths)
        )

    def filter_skip(self, level: int, skip: Tensor, coarse: Tensor) -> Tensor:
        """See :meth:`UNetNetwork.filter_skip`."""
        return cast("Tensor", self.gates[level](skip, coarse))
