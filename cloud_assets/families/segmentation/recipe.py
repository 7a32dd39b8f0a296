"""Declarations of segmentation models: recipes, evaluation settings and section of the model card; torch-free."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.segmentation.stitched_scenes import Cloud38StitchedScenes
from cloud_assets.inference.bundle import CardSection
from cloud_assets.learning.recipe import FocalDice, Optimisation, Recipe
from cloud_assets.networks.shipped import SIMULATION
from cloud_assets.networks.specifications import EfficientNetUNet, NetworkSpecification
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.reports.evaluation import Evaluator
from cloud_assets.simulation.ground import BIOMES, GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe


class Distillation(BaseModel, frozen=True, extra="forbid"):
    """A trained model that a network learns from, beside the labels (Hinton et al. 2015, arXiv:1503.02531)."""

    teacher: str = Field(
        SIMULATION,
        min_length=1,
        description="A variant of the task, 'simulation' (comes with the package), or the folder of a model. It sees "
        "patches before anything about them is varied; those without labels serve as well.",
    )
    share: float = Field(0.5, gt=0, le=1, description="Share of the loss that is the distance from its probabilities.")


class Segmentation(Recipe):
    """A network that tells cloud (and its kinds) from clear ground, pixel by pixel."""

    family: ClassVar[str] = "segmentation"

    network: NetworkSpecification
    loss: FocalDice = Field(default_factory=FocalDice)
    optimisation: Optimisation = Field(default_factory=Optimisation)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    classes: Literal["binary", "four"] = Field(
        "binary", description="'binary': clear and cloud; 'four': clear, thick cloud, thin cloud, cloud shadow."
    )
    bands: tuple[str, ...] | None = Field(
        None, description="Bands to use, by native or common name. Unset: all bands of the patches."
    )
    crop: int | None = Field(256, ge=32, description="Side of random crops of training patches. Unset: whole.")
    normalisation: Literal["range", "standardise", "patch_standardise"] = Field(
        "range",
        description="'range': the clipped values to 0…1; 'standardise': by mean and deviation of the training patches; "
        "'patch_standardise': by those of each patch. Nodata never counts.",
    )
    clip: tuple[float, float] = Field(
        (0.0, 0.4), description="Physical values (reflectance) are clipped to this range first."
    )
    texture: bool = Field(
        False,
        description="Whether the network is shown two channels of fine texture beside the bands: contrast that bands "
        "share, fainter than noise. It tells windblown snow from featureless cloud.",
    )
    simulated_fraction: float = Field(0.0, ge=0, le=1, description="Share of simulated patches in each batch.")
    simulated_patches: int = Field(2000, ge=1, description="How many patches to simulate.")
    simulated_validation: int = Field(
        0,
        ge=0,
        description="How many simulated patches are judged beside the validation split when the best epoch and the "
        "threshold are chosen: a handful of scenes holds too few kinds of bright ground to tell epochs apart.",
    )
    real_validation: bool = Field(
        True,
        description="Judge epochs and threshold on the validation split. false, with simulated_validation and a "
        "simulated_fraction of 1: not one real pixel decides about anything.",
    )
    simulation: SimulationRecipe = Field(default_factory=SimulationRecipe)
    composited_fraction: float = Field(
        0.0, ge=0, le=1, description="Share of the real training patches that get simulated clouds, where clear."
    )
    test_time_augmentation: bool = Field(
        False, description="Predict each patch in four orientations and average: slower, a little better."
    )
    mirrored_border: int = Field(
        16,
        ge=0,
        description="Pixels by which a patch is continued as a mirror would before it is predicted: at the edge of a "
        "patch a network knows half of the surroundings only. Windows of whole scenes overlap, and scenes are mirrored "
        "likewise.",
    )
    distil: Distillation | None = Field(
        None,
        description="A larger model whose answers a smaller network learns to give. Unset: labels alone.",
        exclude_if=lambda given: given is None,  # recipes of before keep the fingerprints of their trainings
    )
    optional_bands: tuple[str, ...] = Field(
        (),
        description="Bands by common name that scenes may lack, one at a time: augmentation.band_dropout takes these "
        "away, no others; the nearest other one in wavelength stands in.",
        exclude_if=lambda names: not names,
    )
    start_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the weights that the training started from in the model that is kept, for trainings that "
        "go on from weights of the whole network on little or narrow data: they forget less of what these know of "
        "other places. Epochs are judged before the two are mixed, the threshold is chosen afterwards.",
    )

    @property
    def learns_from(self) -> str | None:
        """See :attr:`Recipe.learns_from`."""
        return self.distil.teacher if self.distil else None

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


_OUTLINE = (
    "Masks grow by this much around every cloud, metres, for labels are drawn outside of what can be seen; nothing "
    "where a pixel is larger."
)


class OperatingPoint(BaseModel, frozen=True, extra="forbid"):
    """A threshold for a purpose, and what it costs."""

    threshold: float = Field(gt=0, lt=1, description="Cloud at or above this probability.")
    outline_metres: float = Field(0.0, ge=0, description=_OUTLINE)
    precision: float = Field(ge=0, le=1, description="Share of what is called cloud that is cloud.")
    recall: float = Field(ge=0, le=1, description="Share of the cloud that is found.")
    measured_on: str = Field(description="Labels that precision and recall were measured on.")


class SegmentationSection(CardSection):
    """How class probabilities become a mask, and how a patch is shown to the network."""

    cloud_classes: tuple[int, ...] = Field(min_length=1, description="Which of the card's classes are cloud.")
    test_time_augmentation: bool = Field(False, description="Mean over four orientations.")
    mirrored_border: int = Field(0, ge=0, description="Pixels by which a patch is mirrored beyond its edges first.")
    outline_metres: float = Field(0.0, ge=0, description=_OUTLINE)
    operating_points: Mapping[str, OperatingPoint] | None = Field(
        None,
        description="'sensitive' (recall counts twice), 'balanced' (the card's threshold), 'strict' (precision counts "
        "twice). Unset in older cards.",
    )


class SegmentationEvaluation(Evaluator):
    """Scores a cloud mask on the test split, cloud against clear and class by class."""

    family: ClassVar[str] = "segmentation"

    protocols: tuple[Cloud38StitchedScenes, ...] = Field((), description="Official scores of data sets that have one.")
    batch_size: int = Field(8, ge=1, description="Patches a call of the network.")
    worst_patches: int = Field(5, ge=1, description="How many of the worst patches are shown.")
    typical_patches: int = Field(3, ge=1, description="How many patches around the middle of the ranking are shown.")
    baseline_patches: int = Field(1000, ge=1, description="Most patches that the brightness baseline is fitted on.")


RANDOM_SENSORS = Augmentation(
    brightness=0.3,
    gamma=0.1,
    band_offset=0.005,
    blur=0.1,
    noise=0.004,
    coarser=0.1,
    resolution=(0.7, 1.5),
    saturation=0.3,
    quantisation=0.2,
    nodata_wedge=0.1,
)
"""What the sun, the air and any sensor may do to a patch; its mask stays right under all of it."""

VARIED_LIGHT = Augmentation(brightness=0.3, gamma=0.1, saturation=0.3, nodata_wedge=0.1)
"""The milder variations of the tasks' own recipes, whose sensor is known."""

_TIME_LIMIT_MINUTES = 90  # three times what the tasks' own trainings take on two slow processor cores
ANYWHERE = SimulationRecipe(ground=GroundRecipe(biomes=tuple(BIOMES)))
"""All landscapes, those of low contrast between ground and cloud included."""


def mixed_with_simulation(
    network: NetworkSpecification, steps: int, classes: Literal["binary", "four"] = "binary"
) -> Segmentation:
    """Half of each batch is simulated, and some clear patches get simulated clouds: few scenes hold few kinds of land.

    Reflectance is kept up to 1.2, not cut at 0.4 as in the recipes that have thousands of labels: snow and cloud differ
    above that. The authors' own recipes are the ``full`` run configurations.

    Args:
        network: The network to train.
        steps: Steps of the training; the learning rate falls to zero by the last.
        classes: Clear and cloud, or thin cloud and shadow as well.
    """
    return Segmentation(
        network=network,
        classes=classes,
        loss=FocalDice(focal=0.25),
        clip=(0.0, 1.2),
        simulated_fraction=0.5,
        composited_fraction=0.3,
        simulated_validation=24,
        simulation=ANYWHERE,
        augmentation=VARIED_LIGHT,
        optimisation=Optimisation(
            scheduler="linear", steps=steps, max_epochs=1000, patience=None, budget_minutes=_TIME_LIMIT_MINUTES
        ),
    )


def from_simulation(steps: int) -> Segmentation:
    """The same, starting from the weights that come with the package, at the lower rate that trained weights bear.

    Its network looks farther around a pixel than the small ones, so patches get the wider mirrored border of the
    model that it starts from, and it is shown fine texture as that model is.

    Args:
        steps: Steps of the training; the learning rate falls to zero by the last.
    """
    network = EfficientNetUNet(encoder="efficientnet-b2", encoder_weights=SIMULATION)
    recipe = mixed_with_simulation(network, steps)
    optimisation = recipe.optimisation.model_copy(update={"learning_rate": 3e-4})
    return recipe.model_copy(update={"optimisation": optimisation, "mirrored_border": 32, "texture": True})


def compact(steps: int) -> Segmentation:
    """The fast one: a small network that starts from the package's and learns from the large variant too.

    Scenes may lack blue or near infrared.

    Args:
        steps: Steps of the training; the learning rate falls to zero by the last.
    """
    return from_simulation(steps).model_copy(
        update={
            "network": EfficientNetUNet(encoder_weights=SIMULATION, block=2),
            "augmentation": VARIED_LIGHT.model_copy(update={"band_dropout": 0.2}),
            "start_share": 0.5,
            "distil": Distillation(teacher="unet_efficientnet_b2"),
            "optional_bands": ("blue", "nir"),
        }
    )


def any_sensor(steps: int, metres: float) -> Segmentation:
    """The recipe for sensors that were never seen: red, green and near infrared, each patch by its own brightness.

    After Wright et al. 2024 (OmniCloudMask, https://doi.org/10.1016/j.rse.2024.114122): z-scores by patch, which ignore
    nodata, and mixed resolutions. A band may be missing, and everything else about a sensor varies more than usual.

    Args:
        steps: Steps of the training; the learning rate falls to zero by the last.
        metres: The data's own pixel size; what is shown runs from 10 to 60 m.
    """
    recipe = mixed_with_simulation(EfficientNetUNet(), steps)
    varied = {"resolution": (10 / metres, 60 / metres), "band_gain": 0.15, "band_dropout": 0.08}
    # The augmentation varies the resolution, of real and simulated patches alike.
    ground = ANYWHERE.ground.model_copy(update={"pixel_metres": (metres, metres)})
    return recipe.model_copy(
        update={
            "bands": ("red", "green", "nir"),
            "normalisation": "patch_standardise",
            "simulation": ANYWHERE.model_copy(update={"ground": ground}),
            "augmentation": RANDOM_SENSORS.model_copy(update={**varied, "saturation": 0.4, "blur": 0.2}),
        }
    )
