"""A U-Net built from a contracting-block and an expanding-block function.

O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
arXiv:1505.04597. Batch norm after each convolution, padding instead of cropping.
"""

from typing import cast

import torch
from torch import Tensor, nn


def contracting_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU; (N, in, H, W) -> (N, out, H, W).

    The network keeps the output as a skip and halves it by max pooling for the next block.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def expanding_block(in_channels: int, out_channels: int) -> nn.ModuleDict:
    """A transposed convolution that doubles height and width, and the convolutions that merge its output with a skip.

    Returns:
        ``up``: (N, in, H, W) -> (N, out, 2H, 2W); ``merge``: (N, 2 out, 2H, 2W) -> (N, out, 2H, 2W).
    """
    # Kernel = stride: each output pixel comes from one input pixel, so there is no checkerboard from uneven overlap.
    return nn.ModuleDict(
        {
            "up": nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2),
            "merge": contracting_block(2 * out_channels, out_channels),
        }
    )


class UNetNetwork(nn.Module):
    """The U-Net: ``depth`` contracting blocks, a bridge at the coarsest grid, ``depth`` expanding blocks, 1x1 head.

    Args:
        in_channels: Number of input bands.
        out_channels: Number of output channels (logits).
        width: Channels of the first block; doubled by each further one.
        depth: Number of contracting and of expanding blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int = 32, depth: int = 3) -> None:
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
        """What of a skip is passed on; here all of it.

        Args:
            level: Number of the expanding block, 0 the coarsest.
            skip: (N, C, 2H, 2W) features of the contracting path.
            coarse: (N, 2C, H, W) features about to be expanded.
        """
        return skip
