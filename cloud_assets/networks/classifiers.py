"""Classifiers on timm's backbones, for any number of bands; weights are downloaded only on request."""

import difflib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.layers.classifier import ClassifierHead
from timm.models import group_parameters
from torch import Tensor, nn

from cloud_assets.errors import InvalidModel, InvalidRecipe
from cloud_assets.networks.pretrained import hub_file, load_weights, names_match, read_weights

_ALIASES: Mapping[str, str] = {"mobilenet": "mobilenetv3_large_100", "vgg16": "vgg16_bn"}
STAGES = 4  # into how many parts, of as many blocks each, a backbone is cut for staged unfreezing


class ClassifierNetwork(nn.Module):
    """A backbone of timm, taken apart for training."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, outputs) of normalised pixels (N, C, H, W)."""
        return self.head(self.features(pixels))

    def features(self, pixels: Tensor) -> Tensor:
        """What the head looks at, before pooling: (N, F, h, w) for convolutional backbones."""
        return cast("Tensor", self.backbone.forward_features(pixels))

    def head(self, features: Tensor) -> Tensor:
        """Logits (N, outputs) from :meth:`features`."""
        return cast("Tensor", self.backbone.forward_head(features))

    def stages(self) -> list[list[str]]:
        """Names of the backbone's modules in :data:`STAGES` parts, from the input to the last before the head."""
        head = _head_names(self.backbone)
        groups: dict[int, list[str]] = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True))
        blocks = [[f"backbone.{name}" for name in names if not name.startswith(head)] for names in groups.values()]
        blocks = [block for block in blocks if block]
        bounds = [round(len(blocks) * stage / STAGES) for stage in range(STAGES + 1)]
        return [[name for block in blocks[first:last] for name in block] for first, last in pairwise(bounds)]


def class_probability(logits: Tensor, head: str) -> Tensor:
    """Probabilities of the classes.

    An ordinal head (CORN, Shi et al. 2021, arXiv:2111.08851) gives for each boundary k the logit of lying above it for
    what lies above boundary k - 1; the products of these are P(class > k), which never rises with k.

    Args:
        logits: (N, K) of a ``categorical`` head, (N, K - 1) of an ``ordinal`` one.
        head: Which of them.

    Returns:
        (N, K) float32, rows adding up to 1.
    """
    if head == "categorical":
        return logits.float().softmax(dim=1)
    above = logits.float().sigmoid().cumprod(dim=1)
    certain, never = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
    return torch.cat([certain, above], dim=1) - torch.cat([above, never], dim=1)


def build_classifier(
    backbone: str, in_channels: int, out_channels: int, *, weights: str, dropout: float
) -> ClassifierNetwork:
    """See :meth:`~cloud_assets.networks.specifications.Classifier.build`."""
    name = _backbone_name(backbone)
    made: Any = timm.create_model(
        name, pretrained=False, in_chans=in_channels, num_classes=out_channels, drop_rate=dropout
    )
    if "pre_logits.fc1.weight" in made.state_dict():
        made.pre_logits, made.head_hidden_size = nn.Identity(), made.num_features
        made.head = ClassifierHead(made.num_features, out_channels, drop_rate=dropout)
    network = ClassifierNetwork(made)
    if weights != "none":
        repository = made.pretrained_cfg.get("hf_hub_id")
        if weights == "imagenet" and not repository:
            raise InvalidModel(f"timm has no pretrained weights of {backbone} on its hub: set weights: none or a file.")
        is_file = weights != "imagenet"
        _load(network, Path(weights).expanduser() if is_file else hub_file(repository, "model.safetensors"))
    return network


def _backbone_name(backbone: str) -> str:
    """The name of a backbone in timm; where there is none, the error names similar ones."""
    name = _ALIASES.get(backbone, backbone)
    if not timm.is_model(name.partition(".")[0]):
        similar = difflib.get_close_matches(backbone, [*_ALIASES, *timm.list_models()], n=5, cutoff=0.5)
        hint = f"Did you mean {', '.join(similar)}?" if similar else "Usual ones are resnet50, mobilenet, inception_v3."
        raise InvalidRecipe(f"timm {timm.__version__} has no backbone {backbone!r}. {hint}")
    return name


def input_size(backbone: str) -> int:
    """Edge of the pictures that a backbone was made for, pixels.

    Raises:
        InvalidRecipe: If timm has no such backbone.
    """
    settings = timm.get_pretrained_cfg(_backbone_name(backbone))
    return int(settings.input_size[-1]) if settings is not None else 224


def input_range(backbone: str) -> tuple[float, float]:
    """What a backbone was used to see as black and as white: pixels in 0…1 less its mean, over its deviation.

    Raises:
        InvalidRecipe: If timm has no such backbone.
    """
    settings = timm.get_pretrained_cfg(_backbone_name(backbone))
    if settings is None:
        return -1.0, 1.0
    # Averages over red, green and blue, which hardly differ: other bands have none of their own.
    mean, deviation = sum(settings.mean) / len(settings.mean), sum(settings.std) / len(settings.std)
    return -mean / deviation, (1 - mean) / deviation


def _load(network: ClassifierNetwork, path: Path) -> None:
    weights = read_weights(path)
    state = network.state_dict()
    if names_match(network, weights) and all(
        state[name].shape == tensor.shape for name, tensor in weights.items() if tensor.ndim < 4
    ):
        load_weights(network, weights, str(path))
        return
    weights = {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}
    # The head and VGG's dense layers belong to the classes that the weights were trained for: ours stay as they are.
    foreign = (*_head_names(network.backbone), "pre_logits.")
    own = {name: tensor for name, tensor in network.backbone.state_dict().items() if name.startswith(foreign)}
    load_weights(network.backbone, {n: t for n, t in weights.items() if not n.startswith(foreign)} | own, str(path))


def _head_names(backbone: Any) -> tuple[str, ...]:
    classifier = backbone.pretrained_cfg["classifier"]
    return tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
