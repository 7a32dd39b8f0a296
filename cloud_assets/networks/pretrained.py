"""Pretrained weights by name or file: obtained, or an error at once."""

import os
from collections.abc import Mapping
from pathlib import Path

import requests
import torch
from torch import Tensor, nn

from cloud_assets.errors import InvalidModel

_PROBE_SECONDS = 4.0


def hub_file(repository: str, filename: str, revision: str | None = None) -> Path:
    """Path of a file in a repository ``owner/name`` of the model hub, from the local cache or downloaded once.

    Raises:
        InvalidModel: If it is not cached and the hub does not answer within seconds, or has no such file.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, filename, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    wanted = f"{repository}/{filename}"
    advice = (
        "Connect to the internet, copy the hub's cache (HF_HOME) from a machine that has it, give a weights file "
        "instead, or set encoder_weights: none."
    )
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        raise InvalidModel(f"{wanted} is not in the local cache and HF_HUB_OFFLINE forbids downloads. {advice}")
    try:
        # The hub's client retries for most of a minute; one short request is enough.
        requests.head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
        return Path(hf_hub_download(repository, filename, revision=revision))
    except (requests.RequestException, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InvalidModel(f"{wanted} cannot be downloaded ({type(error).__name__}: {error}). {advice}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads the state dict of a ``.safetensors``, ``.pt`` or ``.pth`` file without unpickling code.

    Raises:
        InvalidModel: If there is no such file; if the file is damaged or holds anything but named tensors.
    """
    if not path.is_file():
        raise InvalidModel(
            f"{path}: there is no such weights file. Correct the path, or set 'none', 'imagenet' or "
            "what else the network's field offers."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen unrelated types for damaged or forbidden content
        raise InvalidModel(
            f"{path}: not a readable weights file ({type(error).__name__}: {str(error)[:300]}). Save it again."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InvalidModel(f"{path}: holds no state dict. Save one: torch.save(model.state_dict(), path).")
    return dict(content)


def names_match(module: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether the names of some weights are exactly those of a module."""
    return set(weights) == set(module.state_dict())


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights, adapting convolutions of the input to another number of bands.

    Where a convolution expects another number of input channels than it was trained with, its filters are repeated
    over the bands in turn and scaled so that the sum over the input keeps its size.

    Raises:
        InvalidModel: If names or shapes belong to another architecture.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    adapted = {name: _adapt_bands(weights[name], expected[name]) for name in expected if name in weights}
    differing = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in adapted.items()
        if tensor.shape != expected[name].shape
    ]
    complaints = [
        f"{what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("unknown", unexpected), ("of another shape", differing))
        if names
    ]
    if complaints:
        raise InvalidModel(f"{source}: give weights of this, not of another architecture ({'; '.join(complaints)}).")
    module.load_state_dict(adapted)


def _adapt_bands(weight: Tensor, expected: Tensor) -> Tensor:
    """Repeats the input channels of an RGB convolution; anything else is returned as it is."""
    is_rgb = weight.ndim == 4 and weight.shape[1] == 3 and weight.shape[0] == expected.shape[0]
    if not is_rgb or weight.shape == expected.shape:
        return weight
    channels = expected.shape[1]
    return weight[:, torch.arange(channels) % 3] * (3 / channels)
