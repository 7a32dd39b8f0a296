"""What the model card of an anomaly model holds besides the common part."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.inference.bundle import CardSection

ScoreName = Literal["rmse", "mae", "dissimilarity", "latent_distance", "cloud_likeness"]


class LatentReference(BaseModel):
    """What is usual among the latent codes of normal pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class AnomalySection(CardSection):
    """How a picture is scored."""

    score: ScoreName = Field(description="The score that decides.")
    input_size: int = Field(ge=1, description="Side of the network's input, pixels.")
    top_share: float | None = Field(
        default=None, gt=0, le=1, description="Share of the pixels, the most anomalous ones, whose mean is the score."
    )
    latent: LatentReference | None = Field(default=None, description="Of autoencoders.")
    promised_false_alarm_rate: float | None = Field(
        default=None, description="Share of normal pictures that the threshold calls anomalous at most."
    )
