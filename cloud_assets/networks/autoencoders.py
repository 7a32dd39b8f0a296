"""Autoencoders that learn to reproduce what is normal, made to train on whole pictures in bounded memory.

Their first and last layers are wide and at full resolution: 512 channels at 384 x 384 pixels are 300 MB a picture and
tensor. Those stages run a few pictures at a time and keep no activations; they are computed again on the way back
(Chen et al. 2016, arXiv:1604.06174), which costs a tenth to a third of the time; exact without batch normalisation.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cloud_assets.networks.pretrained import hub_file, load_weights, read_weights


class InParts(nn.Module):
    """Runs stages that treat each picture by itself on some pictures at a time; None: on all, with everything kept.

    While training, only what goes in and comes out is kept.
    """

    def __init__(self, stages: Sequence[nn.Module], pictures: int | None) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        self.pictures = pictures

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, …)."""
        if self.pictures is None:
            return cast("Tensor", self.stages(images))
        is_learning = self.training and torch.is_grad_enabled()
        parts = [
            checkpoint(self.stages, part, use_reentrant=False) if is_learning else self.stages(part)
            for part in torch.split(images, self.pictures)
        ]
        return torch.cat(parts)


class Autoencoder(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructs pictures: (N, C, H, W) -> the same shape."""
        return cast("Tensor", self.decoder(self.encode(images)))

    def encode(self, images: Tensor) -> Tensor:
        """Latent maps: (N, C, H, W) -> (N, L, H / 16 or 32, W / 16 or 32)."""
        return cast("Tensor", self.encoder(images))


def build_conv_autoencoder(channels: int, widths: Sequence[int], pictures: int | None) -> Autoencoder:
    """A plain convolutional autoencoder: convolution, ReLU and max pooling, mirrored with transposed convolutions.

    ``widths`` are the filters of the encoder's convolutions, from the picture to the latent maps; poolings lie between.
    """
    blocks: list[nn.Module] = []
    for before, after in pairwise((channels, *widths)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    encoder = nn.Sequential(InParts(blocks[:3], pictures), *blocks[3:-1])
    stages = [_doubling(*pair) for pair in pairwise(reversed(widths))]
    last = [*stages[-1:], nn.Conv2d(widths[0], channels, 3, padding=1)]
    return _started(Autoencoder(encoder, nn.Sequential(*stages[:-1], InParts(last, pictures))))


def build_vgg19_autoencoder(channels: int, weights: str, pictures: int | None) -> Autoencoder:
    """VGG19's convolutions up to the last pooling (Simonyan & Zisserman 2015, arXiv:1409.1556) and a decoder.

    Raises:
        InvalidModel: If the weights cannot be obtained; if they belong to another architecture.
    """
    backbone = timm.create_model("vgg19", pretrained=False, in_chans=channels, num_classes=0)
    features = backbone.get_submodule("features")
    layers = list(features.children())
    rising = (512, 512, 256, 128, 64, 32)
    stages = [_doubling(*pair) for pair in pairwise(rising)]
    last = [*stages[3:], nn.Conv2d(rising[-1], channels, 3, padding=1)]
    decoder = nn.Sequential(*stages[:3], InParts(last, pictures))
    # The first ten layers are the two blocks at full and half resolution, each with its pooling.
    network = _started(Autoencoder(nn.Sequential(InParts(layers[:10], pictures), *layers[10:]), decoder))
    if weights != "none":
        is_file = weights != "imagenet"
        path = Path(weights).expanduser() if is_file else hub_file("timm/vgg19.tv_in1k", "model.safetensors")
        prefix = "features."
        # The very layers of ``features`` are inside the autoencoder.
        own = {name.removeprefix(prefix): one for name, one in read_weights(path).items() if name.startswith(prefix)}
        load_weights(features, own, str(path))
    return network


def _doubling(before: int, after: int) -> nn.Sequential:
    """Doubles height and width; kernel and stride are equal, so no checkerboard arises."""
    return nn.Sequential(nn.ConvTranspose2d(before, after, 2, stride=2), nn.ReLU(inplace=True))


def _started(network: Autoencoder) -> Autoencoder:
    """Starting weights that keep the signal's size through many ReLUs (He et al. 2015, arXiv:1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fan = module.in_channels * (9 if isinstance(module, nn.Conv2d) else 1)
            nn.init.normal_(module.weight, std=(2 / fan) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
