"""A trained model as a folder: safetensors weights and a model card."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError

from cloud_assets.errors import InvalidModel
from cloud_assets.inference.card import SCHEMA_VERSION, ModelCard
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import torch
    from torch import nn

CARD_FILE = "model_card.json"
WEIGHTS_FILE = "weights.safetensors"


class ModelBundle:
    """A model card with its weights, in memory or in a folder."""

    def __init__(self, card: ModelCard, state_dict: "Mapping[str, torch.Tensor]") -> None:
        self.card = card
        # A copy in the plain memory layout: safetensors knows neither channels-last nor shared memory.
        self._weights = _serialise(state_dict)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens a bundle that :meth:`save` wrote.

        Args:
            directory: The folder.

        Returns:
            The bundle; its weights are read, the network is not built yet.

        Raises:
            InvalidModel: If a file is missing or damaged, or was written by a newer version of Cloud Assets.
        """
        card = _read_card(directory / CARD_FILE)
        path = directory / WEIGHTS_FILE
        _check_weights(path)
        bundle = cls.__new__(cls)
        bundle.card = card
        bundle._weights = path.read_bytes()
        return bundle

    def save(self, directory: Path) -> None:
        """Writes the card and the weights; an older bundle in the folder stays whole until the new one is complete.

        Args:
            directory: The folder to make or replace.
        """
        with atomic_directory(directory) as temporary:
            (temporary / WEIGHTS_FILE).write_bytes(self._weights)
            (temporary / CARD_FILE).write_text(self.card.model_dump_json(indent=2), encoding="utf-8")

    @property
    def version(self) -> str:
        """Hash of the weights and of all in the card that decides what the model answers."""
        essentials = json.dumps(self.card.essentials(), sort_keys=True)
        return hashlib.blake2b(self._weights + essentials.encode(), digest_size=16).hexdigest()

    @property
    def size(self) -> int:
        """Size of the weights, bytes."""
        return len(self._weights)

    def with_card(self, **changes: object) -> "ModelBundle":
        """The same weights with some of the card's fields replaced."""
        bundle = ModelBundle.__new__(ModelBundle)
        bundle.card = ModelCard.model_validate({**dict(self.card), **changes})
        bundle._weights = self._weights
        return bundle

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """The weights, name -> tensor (a fresh copy)."""
        from safetensors.torch import load

        return load(self._weights)

    def network(self) -> "nn.Module":
        """Builds the network with the weights in it, in evaluation mode; never downloads anything.

        Raises:
            InvalidModel: If the weights do not fit the network that the card names.
        """
        network = self.card.network.build(self.card.in_channels, self.card.out_channels, pretrained=False)
        try:
            network.load_state_dict(self.state_dict())
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:600]
            raise InvalidModel(
                f"{self.card.task}/{self.card.variant}: the weights do not fit the {self.card.network.architecture} of "
                f"the model card ({reason}). The two files belong to different models; restore or retrain."
            ) from error
        return network.eval()


def _serialise(state_dict: "Mapping[str, torch.Tensor]") -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()})


def _check_weights(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, ValueError, OSError) as error:
        raise InvalidModel(
            f"{path}: missing, damaged or no safetensors file ({error}). Train the model again or restore the file."
        ) from error


def _read_card(path: Path) -> ModelCard:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidModel(f"{path}: there is no model here. Is this the folder of a trained model?") from error
    except ValueError as error:
        raise InvalidModel(f"{path}: no readable JSON ({error}). Train the model again or restore the file.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise InvalidModel(
            f"{path}: the model card has schema version {version}, this installation reads version {SCHEMA_VERSION}. "
            "Install the version of Cloud Assets that wrote it, or train the model again."
        )
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        raise InvalidModel(f"{path}: not a valid model card: {error}") from error
