"""Recipe, model card section and evaluation settings of coverage classifiers; torch-free."""

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.classification.coverage_labels import CoverageClasses
from cloud_assets.inference.bundle import CardSection, ModelCard
from cloud_assets.learning.recipe import Optimisation, Recipe
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.reports.evaluation import Evaluator
from cloud_assets.simulation.patch import SimulationRecipe


class ClassificationLoss(BaseModel, frozen=True, extra="forbid"):
    """Cross entropy over the classes; with an ordinal head over the boundaries between them (CORN)."""

    class_weights: Literal["balanced", "none"] = Field(
        "balanced", description="'balanced': each class weighs as much as any other, however rare it is."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of a label spread over all classes (categorical)."
    )
    cover_map: float = Field(
        0.0,
        ge=0,
        description="Weight of a second loss in training: the backbone's last features have to tell the cloud cover of "
        "each of their cells, as the masks know it. Helps where patches are few; for convolutional backbones.",
    )


class Unfreezing(BaseModel, frozen=True, extra="forbid"):
    """When the backbone's parts begin to learn; only of use with pretrained weights.

    ``gradual`` frees one of four parts after the other, the last one first (Howard & Ruder 2018, arXiv:1801.06146).
    """

    schedule: Literal["none", "head_first", "gradual"] = Field(
        "none",
        description="'none': all learn at once; 'head_first': the head alone, then all; 'gradual': part by part.",
    )
    epochs: int = Field(2, ge=1, description="Epochs before the next part is freed.")

    def frozen_stages(self, epoch: int, stages: int) -> int:
        """How many of the backbone's parts, counted from the input, do not learn in an epoch (from 0)."""
        if self.schedule == "none":
            return 0
        if self.schedule == "head_first":
            return stages if epoch < self.epochs else 0
        return max(stages - epoch // self.epochs, 0)


class Classification(Recipe):
    """A network that tells how cloudy a whole patch is."""

    family: ClassVar[str] = "classification"

    network: Classifier = Field(default_factory=Classifier)
    loss: ClassificationLoss = Field(default_factory=ClassificationLoss)
    unfreezing: Unfreezing = Field(default_factory=Unfreezing)
    optimisation: Optimisation = Field(default_factory=Optimisation)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    classes: CoverageClasses = Field(default_factory=lambda: CoverageClasses())
    bands: tuple[str, ...] | None = Field(
        None, description="Bands to use, by native or common name. Unset: all bands of the patches."
    )
    normalisation: Literal["range", "standardise"] = Field(
        "range",
        description="'range': the clipped values to what the backbone was used to as black and white; 'standardise': "
        "by mean and deviation of the training patches, where bands differ much, such as cirrus beside red.",
    )
    clip: tuple[float, float] = Field(
        (0.0, 0.4), description="Physical values (reflectance) are clipped to this range first."
    )
    minimum_valid: float = Field(
        0.2, ge=0, le=1, description="A patch with a smaller share of valid pixels is refused."
    )
    training_windows: int = Field(
        800,
        ge=1,
        description="Least number of training samples; fewer patches are extended by random windows, whose coverage "
        "is their own.",
    )
    validation_windows: int = Field(200, ge=1, description="The same for validation.")
    window_scale: tuple[float, float] = Field(
        (0.4, 1.0), description="Smallest and largest edge of a random window, as a share of the patch's."
    )
    simulated_fraction: float = Field(0.0, ge=0, le=1, description="Share of simulated samples in each batch.")
    simulated_patches: int = Field(1000, ge=1, description="How many patches to simulate.")
    simulated_size: int = Field(128, ge=32, description="Edge of the simulated patches, pixels.")
    simulation: SimulationRecipe = Field(default_factory=SimulationRecipe)

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.window_scale
        if not 0 < low <= high <= 1:
            raise InvalidRecipe(f"window_scale must rise within 0 to 1, not {self.window_scale}.")
        if self.network.head == "ordinal" and self.loss.label_smoothing > 0:
            raise InvalidRecipe("label_smoothing is for categorical heads; an ordinal one has nothing to spread.")
        return self


class ClassificationSection(CardSection):
    """Which patches are classified, into which classes."""

    input_size: int = Field(ge=1, description="Side of the network's input, pixels.")
    minimum_valid: float = Field(ge=0, le=1, description="A patch with a smaller share of valid pixels is refused.")
    boundaries: tuple[float, ...] = Field(description="Cloud cover between one class and the next, percent, rising.")

    def classes(self, card: ModelCard) -> CoverageClasses:
        """The classes with their names, which the common part of the card holds."""
        return CoverageClasses(boundaries=self.boundaries, names=card.classes)


class ClassificationEvaluation(Evaluator):
    """Scores coverage classes on the test split, beside rules that need no classifier at all."""

    family: ClassVar[str] = "classification"

    windows: int = Field(
        200, ge=1, description="Least number of samples; fewer patches are extended by random windows of all classes."
    )
    window_scale: tuple[float, float] = Field(
        (0.4, 1.0), description="Smallest and largest edge of a random window, as a share of the patch's."
    )
    baseline_windows: int = Field(1000, ge=1, description="Least number of samples for the brightness rule.")
    calibration_bins: int = Field(10, ge=2, description="Bins of the expected calibration error.")
    mistakes: int = Field(8, ge=1, description="How many of the most confident mistakes are shown.")
