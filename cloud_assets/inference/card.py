"""The model card: JSON that holds all that inference needs and how the model was trained."""

from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_assets.errors import InvalidModel
from cloud_assets.networks.specifications import NetworkSpecification
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES

SCHEMA_VERSION = 1
"""Raised whenever a card of the old form could be misread."""


StoppedBy = Literal["steps", "time limit", "early stopping"]
"""What ended a training: its budget of steps, its time limit, or the lack of progress on validation."""


class Threshold(BaseModel):
    """A decision threshold and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(description="Decide for the positive class at or above this value.")
    method: str = Field(description="How it was chosen, e.g. 'largest cloud IoU on the validation split'.")
    unit: str = Field(description="What is compared with it, e.g. 'cloud probability'.")


class TrainingRecord(BaseModel):
    """How a model was trained, from which data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    steps_run: int | None = Field(default=None, description="Steps trained in all. Unset in older cards.")
    stopped_by: StoppedBy | None = Field(default=None, description="What ended the training. Unset in older cards.")


class ModelCard(BaseModel):
    """What a model is, what it takes, how its output is decided, and how it came about."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: Literal[1] = 1
    task: str
    variant: str
    family: str = Field(description="Which family of models it belongs to: see cloud_assets.families.")
    network: NetworkSpecification
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    preprocessing: Preprocessing = Field(description="From raw digital numbers to the network's input.")
    classes: tuple[str, ...] = Field(default=(), description="Names of the classes, by their index.")
    threshold: Threshold | None = None
    patch_size: int | None = Field(default=None, description="Side of the training patches, pixels.")
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


class CardSection(BaseModel):
    """A typed view of a part of a card's ``details``: what only one family, or one step after training, needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

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
