"""U-Net on an EfficientNet encoder, by segmentation-models-pytorch."""

from pathlib import Path
from typing import cast

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders
from torch import Tensor, nn

from cloud_assets.bands import CLASS_NAMES, CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD
from cloud_assets.errors import InvalidModel
from cloud_assets.networks.pretrained import hub_file, load_weights, names_match, read_weights
from cloud_assets.networks.shipped import SIMULATION, SIMULATION_WEIGHTS

_LOG_ODDS = {CLEAR: -1.2, THICK_CLOUD: 0.25, THIN_CLOUD: 0.3, CLOUD_SHADOW: -0.45}
_LOG_ODDS_ELSEWHERE = -1.9
"""What each logit of the model that comes with the package weighs, and a constant: a fit on simulated patches."""


def build_efficientnet_unet(encoder: str, encoder_weights: str, in_channels: int, out_channels: int) -> nn.Module:
    """See :meth:`~cloud_assets.networks.specifications.EfficientNetUNet.build`.

    The last layer of weights of a whole network for other classes starts anew, but for one logit of cloud from a
    network for the four cloud codes: that starts from theirs.
    """
    # Never by name: the library would download, retry for most of a minute, and rebuild models from the network.
    network = cast("nn.Module", smp.Unet(encoder, encoder_weights=None, in_channels=in_channels, classes=out_channels))
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
        path = _local_file(encoder_weights)
    weights = read_weights(path)
    # The encoder ends before the classifier that its pretrained weights come with.
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")}
    part = network if names_match(network, weights) else cast("nn.Module", network.encoder)
    if part is network:
        weights |= _last_layer(network, weights)[0]
    try:
        load_weights(part, weights, str(path))
    except InvalidModel as error:
        if encoder_weights != SIMULATION:
            raise
        raise InvalidModel(
            "encoder_weights: simulation is for an efficientnet-b2 on 6 channels (red, green, blue, near infrared and "
            f"their texture), not for {encoder} on {in_channels}. Set encoder_weights: none, or the encoder, the bands "
            "and texture: true."
        ) from error
    return network


def check_whole_start(network: nn.Module, encoder_weights: str) -> None:
    """Makes sure that a network was built from weights of a whole network: nothing of it began at random.

    Raises:
        InvalidModel: If the weights are those of an encoder, or of a network for other classes.
    """
    path = _local_file(encoder_weights)
    weights = read_weights(path)
    if not names_match(network, weights):
        raise InvalidModel(
            f"start_share needs weights of the whole network, and {path} holds other ones, of an encoder perhaps: "
            "set start_share to 0."
        )
    if _last_layer(network, weights)[1]:
        raise InvalidModel(
            f"start_share needs weights of a network for the same classes, and {path} is for others, so that the last "
            "layer starts at random: set start_share to 0, or change the recipe's classes."
        )


def _local_file(encoder_weights: str) -> Path:
    """Path of weights that are no hub's."""
    return SIMULATION_WEIGHTS if encoder_weights == SIMULATION else Path(encoder_weights).expanduser()


def _last_layer(network: nn.Module, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The last layer where the weights' one has another number of classes, else nothing; and whether it is random.

    One logit of cloud starts as the weighted sum of those of the four cloud codes that is nearest to the log odds of
    either kind of cloud: :data:`_LOG_ODDS`.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("segmentation_head.")}
    counts = {(len(tensor), len(weights[name])) for name, tensor in own.items()}
    if counts == {(1, len(CLASS_NAMES))}:
        shares = torch.tensor([_LOG_ODDS[code] for code in sorted(CLASS_NAMES)])
        summed = {name: torch.tensordot(shares, weights[name].float(), 1)[None] for name in own}
        return {name: one + _LOG_ODDS_ELSEWHERE if one.ndim == 1 else one for name, one in summed.items()}, False
    is_other = any(count != there for count, there in counts)
    return (own if is_other else {}), is_other
