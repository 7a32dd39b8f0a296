"""What the model card of a segmentation model holds besides the common part."""

from pydantic import Field

from cloud_assets.inference.card import CardSection


class SegmentationSection(CardSection):
    """How class probabilities become a mask, and how a patch is shown to the network."""

    cloud_classes: tuple[int, ...] = Field(min_length=1, description="Which of the card's classes are cloud.")
    test_time_augmentation: bool = Field(default=False, description="Mean over four orientations.")
    mirrored_border: int = Field(
        default=0,
        ge=0,
        description="Pixels by which a patch is mirrored beyond its edges first.",
    )
