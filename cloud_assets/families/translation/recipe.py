"""Declarations of translation models: recipes, evaluation settings and section of the model card; torch-free."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.inference.bundle import CardSection
from cloud_assets.learning.recipe import Optimisation, Recipe
from cloud_assets.networks.specifications import PatchDiscriminator, ResNetGenerator, UNetGenerator
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.reports.evaluation import Evaluator

Generator = Annotated[ResNetGenerator | UNetGenerator, Field(discriminator="architecture")]

PAPER_OPTIMISATION = Optimisation(
    max_epochs=20,
    batch_size=1,
    optimiser="adam",
    learning_rate=2e-4,
    momentum=0.5,
    weight_decay=0.0,
    scheduler="linear",
    decay_start=0.5,
    patience=None,
    gradient_clip=None,
    channels_last=False,
)
"""That of CycleGAN and pix2pix, with fewer epochs."""

_NEED_PAIRS = ("paired_l1", "paired_l2", "ndvi", "perceptual")
"""Losses that compare pictures of the same place; a few pairs are enough for all but the last."""


class TranslationLoss(BaseModel, frozen=True, extra="forbid"):
    """Weights of the parts of the generators' loss; a part with weight 0 costs nothing, not even its networks."""

    adversarial: float = Field(default=1.0, ge=0, description="To be taken for real (least squares, arXiv:1611.04076).")
    cycle: float = Field(default=10.0, ge=0, description="To come back to the same picture after there and back, L1.")
    identity: float = Field(
        default=0.0,
        ge=0,
        description="To leave pictures of the other sensor alone, as a share of 'cycle'. Impossible, and refused, "
        "where the two sensors differ in their number of bands.",
    )
    paired_l1: float = Field(default=0.0, ge=0, description="Distance from the very picture of the same place, L1.")
    paired_l2: float = Field(default=0.0, ge=0, description="The same, squared: what PSNR measures.")
    perceptual: float = Field(
        default=0.0,
        ge=0,
        description="Distance between the discriminator's features of made and of true picture (pix2pixHD, "
        "arXiv:1711.11585); needs no pretrained network.",
    )
    spectral: float = Field(default=0.0, ge=0, description="Angle between made and true spectrum of each pixel.")
    frequency: float = Field(
        0.0, ge=0, description="Distance between the Fourier amplitudes of made and true picture, at all frequencies."
    )
    ndvi: float = Field(default=0.0, ge=0, description="Error of an output of NDVI; needs red and near infrared.")


class Translation(Recipe):
    """Trains a network to make optical pictures from radar pictures."""

    family: ClassVar[str] = "translation"

    network: Generator = Field(default_factory=ResNetGenerator)
    discriminator: PatchDiscriminator = Field(default_factory=PatchDiscriminator)
    loss: TranslationLoss = Field(default_factory=TranslationLoss)
    optimisation: Optimisation = PAPER_OPTIMISATION
    bands: tuple[str, ...] = Field(min_length=1, description="Optical bands to make, by native or common name.")
    pairing: Literal["unpaired", "paired"] = Field(
        default="unpaired",
        description="'unpaired': radar and optical patches of a batch are of different places, as CycleGAN has it; "
        "'paired': of the same, so that losses may compare them.",
    )
    pairs: int = Field(
        default=0,
        ge=0,
        description="How many training patches an unpaired recipe knows as pairs, for the losses that compare such; "
        "every second sample is one of them (Tripathy et al. 2018, arXiv:1805.03189).",
    )
    conditional: bool = Field(default=False, description="The discriminator sees the radar picture too; needs pairs.")
    pool: int = Field(default=50, ge=0, description="Earlier pictures that the discriminator is shown again at times.")
    crop: int | None = Field(default=256, ge=32, description="Side of random crops of training patches. Unset: whole.")
    augmentation: Augmentation = Field(
        default=Augmentation(horizontal_flip=0, vertical_flip=0.5, quarter_turns=0).geometric_only(),
        description="Geometric changes. Radar looks sideways: only up-down flips keep slopes on their lit side.",
    )
    input_clip: tuple[float, float] = Field(default=(-25.0, 0.0), description="Backscatter is clipped to this, dB.")
    output_clip: tuple[float, float] = Field(default=(0.0, 1.0), description="Reflectance is clipped to this.")
    weights: str = Field(
        default="none",
        min_length=1,
        description="'none', or the weights file of an earlier model of this network and these bands to go on from.",
    )
    start_at_mean: bool = Field(
        default=True,
        description="The generator begins with the mean colour of the training patches instead of with grey; the paper "
        "spends its first hundreds of steps on finding it.",
    )
    statistics_patches: int = Field(
        default=16, ge=0, description="Training patches on which the statistics of normalisation are measured."
    )
    collapse_patience: int | None = Field(
        5, ge=1, description="Epochs in a row of mode collapse or divergence after which training stops. Unset: never."
    )
    pictures: int = Field(default=4, ge=0, description="Validation patches in the picture made after each epoch.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pairs and self.pairing == "paired":
            raise InvalidRecipe("pairs is for unpaired recipes, a paired one knows all: set it to 0.")
        needing = [name for name in (_NEED_PAIRS[-1:] if self.pairs else _NEED_PAIRS) if getattr(self.loss, name)]
        needing += ["conditional"] * self.conditional
        if needing and self.pairing == "unpaired":
            raise InvalidRecipe(f"{', '.join(needing)} compares pictures of the same place: set pairing to 'paired'.")
        if self.loss.perceptual and not self.loss.adversarial:
            raise InvalidRecipe("perceptual compares the discriminator's features: give adversarial a weight too.")
        if not (self.loss.adversarial or self.loss.paired_l1 or self.loss.paired_l2):
            raise InvalidRecipe(
                "nothing tells the generator what optical pictures look like: give adversarial or paired_l1 a weight."
            )
        if self.augmentation != self.augmentation.geometric_only():
            raise InvalidRecipe("decibels and reflectance cannot be brightened alike: use geometric changes only.")
        return self


class TranslationSection(CardSection):
    """What is predicted from what, and how the training went."""

    target: Preprocessing = Field(description="Bands and scaling of the predicted reflectance.")
    input_role: str = Field(default="sar", description="Role of the radar patches in the patch store.")
    output_role: str = Field(default="optical", description="Role of the optical patches.")
    validated_on: str = Field(default="validation", description="Patches that the best epoch was chosen on.")
    ended: str = Field(default="", description="Why the training was stopped early, if it was.")

    @property
    def patches_role(self) -> str:
        """Role of the radar patches."""
        return self.input_role


class TranslationEvaluation(Evaluator):
    """Scores predicted reflectance on the test split, beside one constant colour and a linear regression."""

    family: ClassVar[str] = "translation"

    batch_size: int = Field(4, ge=1, description="Patches a call of the predictor.")
    data_range: float = Field(
        1.0, gt=0, description="Reflectance that PSNR and SSIM count as full scale: 1, that is reflectance 0 to 1."
    )
    display_stretch: tuple[float, float] = Field(
        (0.0, 0.3),
        description="Reflectance shown as black and as white; display_… metrics score pictures stretched like that.",
    )
    baseline_pixels: int = Field(200_000, ge=1000, description="Training pixels that the regression is fitted on.")
    baseline_window: int = Field(9, ge=3, description="Side of the window of its local means and variances, pixels.")
    examples: int = Field(4, ge=1, description="How many patches are shown: the worst, the best and some between.")


def cyclegan(*bands: str, steps: int | None = None) -> Translation:
    """CycleGAN as published (arXiv:1703.10593), but without the identity loss, which needs equal band counts.

    Args:
        bands: Optical bands to make.
        steps: Steps of the training, with a time limit for very slow machines. None: all epochs, no limit.
    """
    return Translation(bands=bands, optimisation=PAPER_OPTIMISATION.model_copy(update=_length(steps)))


def pix2pix(*bands: str, steps: int | None = None) -> Translation:
    """What pairs allow (arXiv:1611.07004): U-Net, an L1 term, and a discriminator that sees the radar picture too.

    Unlike in the paper, upsampling is resize-convolution, and there is no dropout, which the paper uses for noise.

    Args:
        bands: Optical bands to make.
        steps: Steps of the training, with a time limit for very slow machines. None: all epochs, no limit.
    """
    return Translation(
        bands=bands,
        network=UNetGenerator(normalisation="batch", upsampling="resize"),
        loss=TranslationLoss(adversarial=1.0, cycle=0.0, paired_l1=100.0),
        pairing="paired",
        conditional=True,
        optimisation=PAPER_OPTIMISATION.model_copy(
            update={"batch_size": 4, "weight_averaging": 0.995, **_length(steps)}
        ),
    )


def _length(steps: int | None) -> dict[str, float | None]:
    return {"steps": steps, "budget_minutes": None if steps is None else 90.0}
