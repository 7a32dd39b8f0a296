"""A trained model: its card, JSON that holds all that inference needs and how it was trained, and its weights."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError

from cloud_assets.errors import InvalidModel
from cloud_assets.networks.shipped import SHIPPED, SIMULATION_MODEL
from cloud_assets.networks.specifications import NetworkSpecification
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import torch
    from torch import nn

SCHEMA_VERSION = 1  # raised whenever a card of the old form could be misread


StoppedBy = Literal["steps", "time limit", "early stopping"]
"""What ended a training: its budget of steps, its time limit, or the lack of progress on validation."""


class Threshold(BaseModel, frozen=True, extra="forbid"):
    """A decision threshold and where it comes from."""

    value: float = Field(description="Decide for the positive class at or above this value.")
    method: str = Field(description="How it was chosen, e.g. 'largest cloud IoU on the validation split'.")
    unit: str = Field(description="What is compared with it, e.g. 'cloud probability'.")


class TrainingRecord(BaseModel, frozen=True, extra="forbid"):
    """How a model was trained, from which data."""

    recipe: dict[str, Any] = Field(description="The recipe, as JSON.")
    seed: int
    epochs_run: int = Field(description="Epochs trained in all, also those before an interruption.")
    best_epoch: int = Field(description="Epoch (from 0) whose weights were kept.")
    history: tuple[dict[str, float], ...] = Field(description="One row of metrics an epoch.")
    patches_version: str
    splits_version: str
    fingerprint: str = Field(description="Hash of recipe and data: the same fingerprint means the same training.")
    seconds: float = Field(description="Wall-clock time of the training, without interruptions.")
    device: str
    steps_run: int | None = Field(None, description="Steps trained in all. Unset in older cards.")
    stopped_by: StoppedBy | None = Field(None, description="What ended the training. Unset in older cards.")


class ModelCard(BaseModel, frozen=True, extra="forbid", protected_namespaces=()):
    """What a model is, what it takes, how its output is decided, and how it came about."""

    schema_version: Literal[1] = 1
    task: str
    variant: str
    family: str = Field(description="Which family of models it belongs to: see cloud_assets.families.")
    network: NetworkSpecification
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    preprocessing: Preprocessing = Field(description="From raw digital numbers to the network's input.")
    classes: tuple[str, ...] = Field((), description="Names of the classes, by their index.")
    threshold: Threshold | None = None
    patch_size: int | None = Field(None, description="Side of the training patches, pixels.")
    training: TrainingRecord
    metrics: dict[str, float] = Field(default_factory=dict, description="On the validation split.")
    software: dict[str, str] = Field(default_factory=dict, description="Versions of the libraries at training.")
    details: dict[str, Any] = Field(default_factory=dict, description="Read and written by card sections.")
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    is_synthetic_training_data: bool = False

    @property
    def bands(self) -> tuple[str, ...]:
        """Native names of the input bands, in the order in which they are expected."""
        return self.preprocessing.bands

    def essentials(self) -> dict[str, Any]:
        """The part of the card that decides what the model answers, as JSON."""
        decisive = {"family", "network", "in_channels", "out_channels", "preprocessing", "classes", "threshold"}
        return self.model_dump(mode="json", include=decisive | {"details"})


class CardSection(BaseModel, frozen=True, extra="ignore"):
    """A typed view of a part of a card's ``details``: what only one family, or one step after training, needs."""

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        """Reads the section of a card.

        Raises:
            InvalidModel: If the card lacks it, or a value in it is not allowed.
        """
        try:
            return cls.model_validate(card.details)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise InvalidModel(
                f"{card.task}/{card.variant}: the details of the model card do not describe a model of the family "
                f"{card.family!r} ({problems}). Train the model again, or install the version of Cloud Assets that "
                "wrote the card."
            ) from error

    def details(self) -> dict[str, Any]:
        """The section as a part of a card's ``details``, JSON; what is unset is left out."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value is not None}

    @property
    def patches_role(self) -> str:
        """Role of the patches that the model reads, in a patch store."""
        return IMAGES


CARD_FILE = "model_card.json"
WEIGHTS_FILE = "weights.safetensors"


class ModelBundle:
    """A model card with its weights, in memory or in a folder."""

    def __init__(self, card: ModelCard, weights: "Mapping[str, torch.Tensor] | bytes") -> None:
        self.card = card
        if not isinstance(weights, bytes):
            from safetensors.torch import save

            # A copy in the plain memory layout: safetensors knows neither channels-last nor shared memory.
            weights = save({name: one.detach().cpu().contiguous().clone() for name, one in weights.items()})
        self._weights = weights

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens a bundle that :meth:`save` wrote; its weights are read, the network is not built yet.

        Raises:
            InvalidModel: If a file is missing or damaged, or was written by a newer version of Cloud Assets.
        """
        from safetensors import SafetensorError, safe_open

        card, path = _read_card(directory / CARD_FILE), directory / WEIGHTS_FILE
        try:
            with safe_open(path, framework="np"):
                return cls(card, path.read_bytes())
        except (SafetensorError, ValueError, OSError) as error:
            raise InvalidModel(
                f"{path}: missing, damaged or no safetensors file ({error}). Train the model again or restore the file."
            ) from error

    def save(self, directory: Path) -> None:
        """Writes card and weights into a folder; an older bundle there stays whole until the new one is complete."""
        with atomic_directory(directory) as temporary:
            (temporary / WEIGHTS_FILE).write_bytes(self._weights)
            (temporary / CARD_FILE).write_text(self.card.model_dump_json(indent=2), encoding="utf-8")

    @cached_property
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
        return ModelBundle(ModelCard.model_validate({**dict(self.card), **changes}), self._weights)

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
        raise InvalidModel(f"{path}: not a valid model card, train the model again: {error}") from error


def shipped_bundle(name: str) -> ModelBundle:
    """The model that comes with the package, used as one of :data:`~cloud_assets.networks.shipped.SHIPPED` says."""
    bundle = ModelBundle.open(SIMULATION_MODEL)
    card = bundle.card.model_dump()
    return bundle.with_card(**{field: {**card[field], **changes} for field, changes in SHIPPED[name].items()})
