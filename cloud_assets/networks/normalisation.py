"""Normalisation layers whose statistics can be fixed, so that the windows of a large scene agree with each other.

Instance normalisation takes mean and variance from the very picture it is given: neighbouring windows of a scene are
then normalised differently and meet in a seam. Here every layer keeps statistics that are used for prediction; they are
measured once, on training patches or on samples of one scene, by :func:`fix_statistics`.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

Normalisation = Literal["instance", "batch"]


def normalisation_layer(kind: Normalisation, channels: int) -> nn.Module:
    """A layer that normalises each channel by its own picture (or batch) in training, by fixed statistics afterwards.

    Args:
        kind: ``instance`` (Ulyanov et al. 2016, arXiv:1607.08022) or ``batch``.
        channels: Number of channels.
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
