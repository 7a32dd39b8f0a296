"""Recipe of segmentation models; torch-free."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.learning.focal_dice import FocalDice
from cloud_assets.learning.optimisation import Optimisation
from cloud_assets.learning.recipe import Recipe
from cloud_assets.networks.specifications import NetworkSpecification
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.simulation.patch import SimulationRecipe


class Segmentation(Recipe):
    """A network that tells cloud (and its kinds) from clear ground, pixel by pixel."""

    family: ClassVar[str] = "segmentation"

    network: NetworkSpecification
    loss: FocalDice = Field(default_factory=FocalDice)
    optimisation: Optimisation = Field(default_factory=Optimisation)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    classes: Literal["binary", "four"] = Field(
        default="binary", description="'binary': clear and cloud; 'four': clear, thick cloud, thin cloud, cloud shadow."
    )
    bands: tuple[str, ...] | None = Field(
        default=None, description="Bands to use, by native or common name. Unset: all bands of the patches."
    )
    crop: int | None = Field(default=256, ge=32, description="Side of random crops of training patches. Unset: whole.")
    normalisation: Literal["range", "standardise", "patch_standardise"] = Field(
        default="range",
        description="'range': the clipped values to 0…1; 'standardise': by mean and deviation of the training patches; "
        "'patch_standardise': by those of each patch. Nodata never counts.",
    )
    clip: tuple[float, float] = Field(
        default=(0.0, 0.4), description="Physical values (reflectance) are clipped to this range first."
    )
    texture: bool = Field(
        default=False,
        description="Whether the network is shown two channels of fine texture beside the bands: contrast that bands "
        "share, fainter than noise. It tells windblown snow from featureless cloud.",
    )
    simulated_fraction: float = Field(default=0.0, ge=0, le=1, description="Share of simulated patches in each batch.")
    simulated_patches: int = Field(default=2000, ge=1, description="How many patches to simulate.")
    simulated_validation: int = Field(
        default=0,
        ge=0,
        description="How many simulated patches are judged beside the validation split when the best epoch and the "
        "threshold are chosen: a handful of scenes holds too few kinds of bright ground to tell epochs apart.",
    )
    real_validation: bool = Field(
        default=True,
        description="Judge epochs and threshold on the validation split. false, with simulated_validation and a "
        "simulated_fraction of 1: not one real pixel decides about anything.",
    )
    simulation: SimulationRecipe = Field(default_factory=SimulationRecipe)
    composited_fraction: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the real training patches that get simulated clouds, where clear.",
    )
    test_time_augmentation: bool = Field(
        default=False, description="Predict each patch in four orientations and average: slower, a little better."
    )
    mirrored_border: int = Field(
        default=16,
        ge=0,
        description="Pixels by which a patch is continued as a mirror would before it is predicted: at the edge of a "
        "patch a network knows half of the surroundings only. Windows of whole scenes overlap, and scenes are mirrored "
        "likewise.",
    )
    start_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the weights that the training started from in the model that is kept, for trainings that "
        "go on from weights of the whole network on little or narrow data: they forget less of what these know of "
        "other places. Epochs are judged before the two are mixed, the threshold is chosen afterwards.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.real_validation or self.simulated_validation):
            raise InvalidRecipe("without real_validation, simulated_validation patches are needed to judge epochs on.")
        if self.normalisation == "standardise" and self.simulated_fraction == 1 and not self.real_validation:
            raise InvalidRecipe(
                "normalisation 'standardise' takes its statistics from real patches, of which this recipe uses none: "
                "set 'range' or 'patch_standardise'."
            )
        if self.start_share and getattr(self.network, "encoder_weights", "none") in {"none", "imagenet"}:
            raise InvalidRecipe(
                f"start_share {self.start_share:g} keeps weights that a whole network started from, and this one's "
                "start is random: set the network's encoder_weights to 'simulation' or to a file, or start_share to 0."
            )
        return self
