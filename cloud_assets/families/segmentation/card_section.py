"""What the model card of a segmentation model holds besides the common part."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.inference.card import CardSection


class OperatingPoint(BaseModel):
    """A threshold for a purpose, and what it costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(gt=0, lt=1, description="Cloud at or above this probability.")
    precision: float = Field(ge=0, le=1, description="Share of what is called cloud that is cloud.")
    recall: float = Field(ge=0, le=1, description="Share of the cloud that is found.")
    measured_on: str = Field(description="Labels that precision and recall were measured on.")


class SegmentationSection(CardSection):
    """How class probabilities become a mask, and how a patch is shown to the network."""

    cloud_classes: tuple[int, ...] = Field(min_length=1, description="Which of the card's classes are cloud.")
    test_time_augmentation: bool = Field(default=False, description="Mean over four orientations.")
    mirrored_border: int = Field(
        default=0,
        ge=0,
        description="Pixels by which a patch is mirrored beyond its edges first.",
    )
    operating_points: Mapping[str, OperatingPoint] | None = Field(
        default=None,
        description="'sensitive' (recall counts twice), 'balanced' (the card's threshold), 'strict' (precision counts "
        "twice). Unset in older cards.",
    )
