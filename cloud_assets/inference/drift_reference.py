"""The drift reference in a model card: statistics of the training data."""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_assets.errors import InvalidModel
from cloud_assets.inference.card import CardSection, ModelCard

SCHEMA_VERSION = 2
"""1 held band statistics only, which tell nothing about how much one scene differs from the next."""

Columns = dict[str, tuple[float, ...]]


class TrainingReference(BaseModel):
    """Statistics of the labelled data that a model was trained, chosen and tested with.

    Single patches are kept, not one histogram of all pixels: pixels of a scene resemble each other, so only the spread
    from scene to scene tells whether a new scene is unusual.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    bands: tuple[str, ...] = Field(description="The model's bands.")
    unit: str = Field(description="Physical unit of the statistics.")
    mean: tuple[float, ...] = Field(description="Of each band over the valid pixels of the training split.")
    std: tuple[float, ...] = Field(description="Likewise.")
    percentiles: dict[str, tuple[float, ...]] = Field(description="Likewise, by percentage.")
    images: Columns = Field(description="Features of the pixels; one value a sampled patch of any split.")
    image_groups: tuple[int, ...] = Field(description="Number of the group of each of these patches.")
    answers: Columns = Field(
        description="Features of the model's answers; one value a sampled patch that it did not learn from."
    )
    answer_groups: tuple[int, ...] = Field(description="Number of the group of each of these patches.")
    known_groups: tuple[str, ...] = Field(description="Short hashes of all groups in the splits; others are new.")


class ReferenceSection(CardSection):
    """The reference as a part of a model card; of any schema version."""

    training_reference: dict[str, Any] | None = None


def group_hash(group: str) -> str:
    """A group's short hash, as :attr:`TrainingReference.known_groups` holds it."""
    return hashlib.blake2b(group.encode(), digest_size=6).hexdigest()


def reference_of(card: ModelCard) -> TrainingReference:
    """The reference in a model card.

    Raises:
        InvalidModel: If the card has none, or one of another schema version.
    """
    content = ReferenceSection.of(card).training_reference
    found = "none" if content is None else f"one of schema version {content.get('schema_version', 1)}"
    if content is not None and content.get("schema_version") == SCHEMA_VERSION:
        try:
            return TrainingReference.model_validate(content)
        except ValidationError as error:
            found = f"a damaged one ({error.error_count()} errors)"
    raise InvalidModel(
        f"{card.task}/{card.variant}: drift is measured against a training reference of schema version "
        f"{SCHEMA_VERSION} in the model card; this card has {found}. Train the model again (retrain: true)."
    )


def columns(rows: Iterable[dict[str, float]]) -> Columns:
    """Features of several patches by name."""
    listed = list(rows)
    names = list(listed[0]) if listed else []
    return {name: tuple(row[name] for row in listed) for name in names}
