"""Recipes, model card section and evaluation settings of anomaly models; torch-free."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.inference.bundle import CardSection
from cloud_assets.learning.recipe import FocalDice, Optimisation, Recipe
from cloud_assets.networks.specifications import (
    AttentionUNet,
    BandLikeness,
    ConvAutoencoder,
    EfficientNetUNet,
    UNet,
    VGG19Autoencoder,
)
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.reports.evaluation import Evaluator
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.patch import SimulationRecipe

ScoreName = Literal["rmse", "mae", "dissimilarity", "latent_distance", "cloud_likeness", "white_smoothness"]

NORMAL_AUGMENTATION = Augmentation(
    quarter_turns=0,
    rotation_degrees=180,
    shift=0.1,
    brightness=0,
    contrast=0,
    colour=0,
    band_gain=0,
    blur=0.2,
    blur_sigma=1.0,
    noise=0.004,
)
"""Flips, any rotation, shifts, Gaussian noise and blur: what leaves a cloud-free picture cloud-free."""

AUTHORS_OPTIMISATION = Optimisation(
    max_epochs=100, batch_size=16, optimiser="radam", weight_decay=0, plateau_factor=0.4
)
"""Rectified Adam (Liu et al. 2020, arXiv:1908.03265), a rate lowered on a plateau, early stopping."""

CLOUDING_AUGMENTATION = Augmentation(
    rotation_degrees=20, shift=0.05, zoom=0.2, brightness=0.25, gamma=0.1, blur=0.2, blur_sigma=1.0, noise=0.004
)
"""Besides orientation also light and colour: pictures of other sensors and another sun are classified as well."""

CLOUDING_OPTIMISATION = Optimisation(
    max_epochs=60, batch_size=16, steps_per_epoch=60, learning_rate=3e-3, scheduler="one_cycle", patience=None
)
"""Every batch has other clouds, so there is no overfitting to stop early for; the rate rises and falls once."""


class ThresholdRule(BaseModel, frozen=True, extra="forbid"):
    """From which score on a picture is called anomalous. Never the smallest score of the normals."""

    method: Literal["quantile", "mad", "fixed", "f1"] = Field(
        default="quantile",
        description="'quantile': by rank among the validation normals, such that a new normal picture is called "
        "anomalous with at most the promised rate; 'mad': median plus deviations, for few normals or gross outliers "
        "among them; 'fixed': the value given; 'f1': best F1 on validation, which must then hold labelled anomalies.",
    )
    false_alarm_rate: float = Field(default=0.1, gt=0, lt=0.5, description="Share of normal pictures called anomalous.")
    value: float | None = Field(default=None, description="The threshold of 'fixed', in the unit of the score.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.value is None) == (self.method == "fixed"):
            raise InvalidRecipe("give a threshold a value with the method 'fixed', and only then.")
        return self


class AnomalyRecipe(Recipe, frozen=True, extra="forbid"):
    """What all anomaly models have in common: they see cloud-free pictures only."""

    family: ClassVar[str] = "anomaly"

    optimisation: Optimisation = Field(default=AUTHORS_OPTIMISATION)
    augmentation: Augmentation = Field(default=NORMAL_AUGMENTATION)
    threshold: ThresholdRule = Field(default_factory=ThresholdRule)
    bands: tuple[str, ...] | None = Field(
        default=None, description="Bands to use, by native or common name. Unset: all bands of the patches."
    )
    clip: tuple[float, float] = Field(
        default=(0.0, 0.4), description="Physical values (reflectance) are clipped to this range and scaled to 0…1."
    )


class Reconstruction(AnomalyRecipe):
    """An autoencoder: what it cannot reproduce is anomalous."""

    network: Annotated[ConvAutoencoder | VGG19Autoencoder, Field(discriminator="architecture")]
    score: Literal["rmse", "mae", "dissimilarity", "latent_distance"] = Field(
        default="rmse", description="Which of the scores decides; all of them are reported."
    )


class SyntheticAnomalies(AnomalyRecipe):
    """A network that learns to tell untouched cloud-free pictures from ones that anomalies were laid over.

    As in DRAEM (Zavrtanik et al. 2021, arXiv:2108.07610) and CutPaste (Li et al. 2021, arXiv:2104.04015), but the
    anomalies are simulated clouds instead of textures or patches. No picture of a real cloud is seen in training; what
    clouds look like is known from the simulation's physics. So it finds clouds, and not just any anomaly.
    """

    optimisation: Optimisation = Field(default=CLOUDING_OPTIMISATION)
    augmentation: Augmentation = Field(default=CLOUDING_AUGMENTATION)
    network: Annotated[UNet | AttentionUNet | EfficientNetUNet, Field(discriminator="architecture")] = Field(
        default_factory=lambda: UNet(width=16, depth=4)
    )
    loss: FocalDice = Field(
        default_factory=lambda: FocalDice(focal=1.0, gamma=0.0),
        description="By default cross entropy, whose probabilities are calibrated: either snow or cloud gets a half.",
    )
    clouds: CloudRecipe = Field(default_factory=lambda: CloudRecipe(none=0))
    clouded_fraction: float = Field(
        default=0.5, gt=0, lt=1, description="Share of the training pictures that simulated clouds are laid over."
    )
    picture_size: int | None = Field(
        default=192,
        ge=32,
        description="Pictures are reduced to this edge first: clouds are known by their surroundings rather than by "
        "fine detail, and four times as many are seen in the same time. Unset: as they are.",
    )
    crop: int | None = Field(default=160, ge=32, description="Side of random crops of training pictures. Unset: whole.")
    simulated_normals: int = Field(
        default=1000, ge=1, description="How many cloud-free pictures of all kinds of land, snow and water to simulate."
    )
    simulated_fraction: float = Field(
        default=0.7, ge=0, lt=1, description="Share of simulated cloud-free pictures in training. 0: none."
    )
    simulation: SimulationRecipe = Field(default_factory=SimulationRecipe)
    top_share: float = Field(default=0.1, gt=0, le=1, description="A picture's score: mean of this share of pixels.")


class WhiteSmoothness(AnomalyRecipe):
    """Knows clouds by two things that no gain and offset of a band changes: its bands are alike, and it is smooth.

    Each picture is standardised band by band. What is usual of both numbers among cloud-free pictures is learnt, four
    weights in all. Fields of one colour, such as saturated snow or overcast, lie just above what is usual.
    """

    network: BandLikeness = Field(default_factory=BandLikeness)
    augmentation: Augmentation = Field(default=Augmentation.none())
    optimisation: Optimisation = Field(
        default=Optimisation(
            steps=120, budget_minutes=15, batch_size=16, steps_per_epoch=30, learning_rate=0.1, weight_decay=0
        )
    )
    picture_size: int = Field(default=96, ge=32, description="Pictures are reduced to this edge first.")


class LatentReference(BaseModel):
    """What is usual among the latent codes of normal pictures."""

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


class AnomalyEvaluation(Evaluator):
    """Scores an anomaly model on normal pictures that it never saw and on the anomalous ones, beside trivial rules."""

    family: ClassVar[str] = "anomaly"

    hard_prefixes: tuple[str, ...] = Field(
        ("snow", "sand", "glint", "salt", "SnowIce"),
        description="File names of normal pictures that are easily taken for clouds begin with one of these.",
    )
    shown: int = Field(4, ge=1, description="How many pictures of each kind the panels show.")
    outlier_deviations: float = Field(
        5.0,
        gt=0,
        description="Pictures of the training and validation normals that lie this many robust deviations above their "
        "median are listed as suspicious: a cloudy picture may have got among them.",
    )
