"""Generators that translate pictures of one sensor into those of another, their normalisation and discriminators.

J.-Y. Zhu, T. Park, P. Isola, A. Efros: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.
ICCV 2017, arXiv:1703.10593; P. Isola et al.: Image-to-Image Translation with Conditional Adversarial Networks. CVPR
2017, arXiv:1611.07004.

Instance normalisation takes mean and variance from the very picture it is given: neighbouring windows of a scene are
then normalised differently and meet in a seam. Here every layer keeps statistics that are used for prediction; they are
measured once, on training patches or on samples of one scene, by :func:`fix_statistics`.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


def normalisation_layer(kind: str, channels: int) -> nn.Module:
    """A layer that normalises each channel by its own picture (or batch) in training, by fixed statistics afterwards.

    The one by picture is of Ulyanov et al. 2016, arXiv:1607.08022.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=True)


@torch.no_grad()
def fix_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measures the statistics that normalisation uses for prediction: plain averages over some pictures.

    Without it they are a moving average over the last steps of the training, in which the weights changed and, in a
    cycle, reconstructed pictures were among the input.

    Args:
        network: The network; its weights and its mode do not change.
        batches: Inputs (N, C, H, W); without any, nothing changes.
    """
    kinds = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d)
    layers = [layer for layer in network.modules() if isinstance(layer, kinds) and layer.track_running_stats]
    modes = [(module, module.training) for module in network.modules()]
    momenta = [layer.momentum for layer in layers]
    network.eval()
    try:
        for layer in layers:
            layer.train()
        for number, batch in enumerate(batches):
            for layer in layers:
                layer.momentum = 1 / (number + 1)
            network(batch)
    finally:
        for module, mode in modes:
            module.training = mode
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def initialise(network: nn.Module, deviation: float = 0.02) -> None:
    """Draws all convolution weights from N(0, deviation), as the CycleGAN paper does; biases become zero."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, deviation)
            nn.init.zeros_(module.bias)


def doubling(in_channels: int, out_channels: int, upsampling: str) -> nn.Module:
    """Doubles height and width; (N, in, H, W) -> (N, out, 2H, 2W).

    ``resize`` and convolve leaves no checkerboard (Odena et al. 2016, https://doi.org/10.23915/distill.00003).
    """
    if upsampling == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.ReflectionPad2d(1),
        nn.Conv2d(in_channels, out_channels, kernel_size=3),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflected borders, added to their input; (N, C, H, W) -> the same."""

    def __init__(self, channels: int, normalisation: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, kernel_size=3)]
            layers += [normalisation_layer(normalisation, channels), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return cast("Tensor", x + self.body(x))


class ResNetGeneratorNetwork(nn.Module):
    """Two halvings, residual blocks, two doublings, tanh (Johnson et al. 2016, arXiv:1603.08155)."""

    def __init__(
        self, in_channels: int, out_channels: int, width: int, blocks: int, normalisation: str, upsampling: str
    ) -> None:
        super().__init__()

        def finished(channels: int) -> list[nn.Module]:
            return [normalisation_layer(normalisation, channels), nn.ReLU(inplace=True)]

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, kernel_size=7)]
        layers += finished(width)
        for channels in (width, 2 * width):
            layers += [nn.Conv2d(channels, 2 * channels, kernel_size=3, stride=2, padding=1), *finished(2 * channels)]
        layers += [ResidualBlock(4 * width, normalisation) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += [doubling(channels, channels // 2, upsampling), *finished(channels // 2)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, kernel_size=7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W) in [-1, 1]; H and W are multiples of 4 and at least 8."""
        return cast("Tensor", self.layers(x))


class UNetGeneratorNetwork(nn.Module):
    """U-Net of strided convolutions with skips, tanh; pix2pix's generator without its dropout, with reflected borders.

    Zeros around the border, as in the paper, show a network trained on small crops where the border is; on a larger
    picture it then finds none and answers with blobs.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, depth: int, normalisation: str, upsampling: str
    ) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(depth + 1)]
        self.entry = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(in_channels, width, kernel_size=3))
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(0.2),
                nn.Conv2d(widths[level], widths[level + 1], kernel_size=4, stride=2, padding=1, padding_mode="reflect"),
                normalisation_layer(normalisation, widths[level + 1]),
            )
            for level in range(depth)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                doubling(widths[level + 1] * (1 if level == depth - 1 else 2), widths[level], upsampling),
                normalisation_layer(normalisation, widths[level]),
            )
            for level in reversed(range(depth))
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(2 * width, out_channels, kernel_size=3), nn.Tanh()
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W) in [-1, 1]; H and W are multiples of 2**depth, at least twice that."""
        skips = [self.entry(x)]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        x = skips.pop()
        for layer in self.up:
            x = torch.cat([skips.pop(), layer(x)], dim=1)
        return cast("Tensor", self.head(x))


class PatchDiscriminatorNetwork(nn.Module):
    """PatchGAN (Isola et al. 2017, arXiv:1611.07004): one verdict for each overlapping patch of a picture.

    Its normalisation always goes by the picture at hand: it is never used after the training. Channels double with each
    layer, up to eight times as many.
    """

    def __init__(self, in_channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        first = nn.Sequential(nn.Conv2d(in_channels, width, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.stages = nn.ModuleList([first])
        for level, (before, after) in enumerate(pairwise(widths), 1):
            convolution = nn.Conv2d(before, after, kernel_size=4, stride=2 if level < layers else 1, padding=1)
            self.stages.append(nn.Sequential(convolution, nn.InstanceNorm2d(after), nn.LeakyReLU(0.2)))
        self.verdict = nn.Conv2d(widths[-1], 1, kernel_size=4, padding=1)
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Verdicts (N, 1, h, w), about 1 for real and 0 for made-up patches, and the features of all layers.

        ``x``: (N, in_channels, H, W), H and W at least 24 pixels.
        """
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.verdict(x), features
