"""Settings of the segmentation loss; torch-free."""

from pydantic import BaseModel, ConfigDict, Field


class FocalDice(BaseModel):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002) plus Dice loss; unlabelled pixels take no part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    focal: float = Field(default=0.25, ge=0, le=1, description="Share of the focal loss; the Dice loss has the rest.")
    gamma: float = Field(default=2.0, ge=0, description="How strongly easy pixels are played down.")
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="Weight of each class, in the order of the classes. Unset: all the same."
    )
