"""The model card: all that inference needs to know about a model, and all that a reader wants to know, as JSON."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.networks.specifications import NetworkSpecification
from cloud_assets.patches.preprocessing import Preprocessing

SCHEMA_VERSION = 1
"""Raised whenever a card of the old form could be misread."""

Family = Literal["segmentation", "classification", "anomaly", "translation"]


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
    family: Family = Field(description="Which kind of predictor runs it.")
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
    details: dict[str, Any] = Field(default_factory=dict, description="What only this family of models needs.")
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
