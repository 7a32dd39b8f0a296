"""A U-Net built from a contracting-block and an expanding-block function, and one with attention gates on its skips.

O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
arXiv:1505.04597. Batch norm after each convolution, padding instead of cropping.

O. Oktay et al.: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018, arXiv:1804.03999.
"""

from typing import cast

import torch
from torch import Tensor, nn


def contracting_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU; (N, in, H, W) -> (N, out, H, W).

    The network keeps the output as a skip and halves it by max pooling for the next block.
    """
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def expanding_block(in_channels: int, out_channels: int) -> nn.ModuleDict:
    """``up`` doubles height and width, (N, in, H, W) -> (N, out, 2H, 2W); ``merge`` joins its output with a skip."""
    # Kernel = stride: each output pixel comes from one input pixel, so there is no checkerboard from uneven overlap.
    return nn.ModuleDict(
        {
            "up": nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2),
            "merge": contracting_block(2 * out_channels, out_channels),
        }
    )


class UNetNetwork(nn.Module):
    """The U-Net: ``depth`` contracting blocks, a bridge at the coarsest grid, ``depth`` expanding blocks, 1x1 head.

    The first block has ``width`` channels, each further one twice as many.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.widths = [width * 2**level for level in range(depth)]
        inputs = [in_channels, *self.widths[:-1]]
        self.contracting = nn.ModuleList(contracting_block(*pair) for pair in zip(inputs, self.widths, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.bridge = contracting_block(self.widths[-1], 2 * self.widths[-1])
        self.expanding = nn.ModuleList(expanding_block(2 * channels, channels) for channels in reversed(self.widths))
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, out_channels, H, W) for bands (N, in_channels, H, W); H and W are multiples of 2**depth."""
        skips = []
        for block in self.contracting:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bridge(x)
        for level, block in enumerate(self.expanding):
            expand = cast("nn.ModuleDict", block)
            skip = self.filter_skip(level, skips.pop(), x)
            x = expand["merge"](torch.cat([skip, expand["up"](x)], dim=1))
        return cast("Tensor", self.head(x))

    def filter_skip(self, level: int, skip: Tensor, coarse: Tensor) -> Tensor:
        """What of a skip (N, C, 2H, 2W) is passed on beside coarser features (N, 2C, H, W); here all of it.

        Levels are counted from the coarsest.
        """
        return skip


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

    def __init__(self, in_channels: int, out_channels: int, width: int, depth: int) -> None:
        super().__init__(in_channels, out_channels, width, depth)
        self.gates = nn.ModuleList(
            AttentionGate(channels, 2 * channels, max(channels // 2, 1)) for channels in reversed(self.widths)
        )

    def filter_skip(self, level: int, skip: Tensor, coarse: Tensor) -> Tensor:
        """See :meth:`UNetNetwork.filter_skip`."""
        return cast("Tensor", self.gates[level](skip, coarse))
