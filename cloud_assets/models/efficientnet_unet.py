"""U-Net on an EfficientNet encoder, by segmentation-models-pytorch."""

from pathlib import Path
from typing import cast

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.encoders import encoders
from torch import nn

from cloud_assets.models.pretrained import hub_file, load_weights, names_match, read_weights


def build_efficientnet_unet(encoder: str, encoder_weights: str, in_channels: int, out_channels: int) -> nn.Module:
    """Makes the network.

    Args:
        encoder: Name of the encoder, ``efficientnet-b0`` … ``efficientnet-b5``.
        encoder_weights: ``none``, ``imagenet``, or a weights file of the encoder or of the whole network.
        in_channels: Number of input bands.
        out_channels: Number of output channels (logits).

    Returns:
        (N, in_channels, H, W) -> (N, out_channels, H, W); H and W are multiples of 32.

    Raises:
        WeightsUnavailable: If the weights cannot be obtained.
        WrongWeights: If they belong to another architecture.
    """
    # Never by name: the library would download, retry for most of a minute, and rebuild models from the network.
    network = cast(
        "nn.Module",
        smp.Unet(encoder_name=encoder, encoder_weights=None, in_channels=in_channels, classes=out_channels),
    )
    # The encoder's own 0.01 is meant for hundreds of thousands of steps: after a few hundred, running statistics are
    # still near their start and evaluation mode calls everything cloud.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    if encoder_weights == "none":
        return network
    if encoder_weights == "imagenet":
        settings = encoders[encoder]["pretrained_settings"]["imagenet"]
        path = hub_file(settings["repo_id"], "model.safetensors", settings["revision"])
    else:
        path = Path(encoder_weights).expanduser()
    weights = read_weights(path)
    # The encoder ends before the classifier that its pretrained weights come with.
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")}
    part = network if names_match(network, weights) else cast("nn.Module", network.encoder)
    load_weights(part, weights, str(path))
    return network
