"""What drift is measured on: features of patches, and those of the training data in a model card."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from cloud_assets.errors import InvalidModel
from cloud_assets.inference.bundle import CardSection, ModelCard
from cloud_assets.patches.preprocessing import Preprocessing

SCHEMA_VERSION = 2  # 1 held band statistics only, which tell nothing about how much one scene differs from the next

Columns = dict[str, tuple[float, ...]]


class TrainingReference(BaseModel, frozen=True, extra="forbid"):
    """Statistics of the labelled data that a model was trained, chosen and tested with.

    Single patches are kept, not one histogram of all pixels: pixels of a scene resemble each other, so only the spread
    from scene to scene tells whether a new scene is unusual.
    """

    schema_version: Literal[2] = 2
    bands: tuple[str, ...] = Field(description="The model's bands.")
    unit: str = Field(description="Physical unit of the statistics.")
    mean: tuple[float, ...] = Field(description="Of each band over the valid pixels of the training split.")
    std: tuple[float, ...] = Field(description="Likewise.")
    percentiles: dict[str, tuple[float, ...]] = Field(description="Likewise, by percentage.")
    images: Columns = Field(description="Features of the pixels; one value a sampled patch of any split.")
    image_groups: tuple[int, ...] = Field(description="Number of the group of each of these patches.")
    answers: Columns = Field(description="Features of the answers; one value a patch that it did not learn from.")
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


_DARK = 2
_SMALLEST = 1e-3
_ENOUGH_PIXELS = 16_000
"""Percentiles of every fourth pixel of a patch of 256 x 256 are those of all, at a quarter of the cost."""


def image_features(dn: npt.NDArray[Any], preprocessing: Preprocessing, names: Sequence[str] = ()) -> dict[str, float]:
    """Describes the pixels of a patch (C, H, W), band by band, in physical units; empty if no pixel is valid.

    ``mean_<band>`` and ``std_<band>``; ``dark_<band>``, the 2nd percentile: an offset shows in dark pixels first, for
    clouds move means far more than calibration does; ``colour_<band>``, how far the band's dark pixels are above those
    of all bands together (logarithm of the ratio; difference for decibels), in which illumination cancels out.
    ``names`` replace those of the bands.
    """
    physical, valid = preprocessing.to_physical(dn)
    if not valid.any():
        return {}
    pixels = physical[:, valid]
    pixels = pixels[:, :: max(1, pixels.shape[1] // _ENOUGH_PIXELS)].astype(np.float64)
    dark = np.percentile(pixels, _DARK, axis=1)
    scale = np.log(np.maximum(dark, _SMALLEST)) if preprocessing.profile.unit == "reflectance" else dark
    parts = {"mean": pixels.mean(axis=1), "std": pixels.std(axis=1), "dark": dark, "colour": scale - scale.mean()}
    # One band has no colour.
    shown = parts if len(pixels) > 1 else {name: values for name, values in parts.items() if name != "colour"}
    return {
        f"{name}_{band}": _five_digits(value)
        for name, values in shown.items()
        for band, value in zip(names or preprocessing.bands, values, strict=True)
    }


def rounded(**values: float) -> dict[str, float]:
    """Features with five digits, as cards hold them: rounding alone would set new ones apart. None if not finite."""
    finite = all(np.isfinite(value) for value in values.values())
    return {name: _five_digits(value) for name, value in values.items()} if finite else {}


def _five_digits(value: float) -> float:
    return float(f"{value:.5g}")
