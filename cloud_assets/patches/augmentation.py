"""What is varied about training patches: orientation, radiometry, sharpness, sensor. Strengths are fields; 0 is off.

The declaration costs nothing to import; :class:`cloud_assets.patches.augmenter.Augmenter` does the work.
"""

from pydantic import BaseModel, Field, field_validator

from cloud_assets.simulation.ranges import Scale


class Augmentation(BaseModel, frozen=True, extra="forbid"):
    """Strengths and probabilities of the random changes to a training patch.

    Radiometric changes act on physical units (reflectance), before normalisation: give images to the augmenter between
    :meth:`Preprocessing.to_physical` and :meth:`Preprocessing.normalise`. For radar: :meth:`geometric_only`.
    """

    horizontal_flip: float = Field(0.5, ge=0, le=1, description="Probability of a left-right flip.")
    vertical_flip: float = Field(0.5, ge=0, le=1, description="Probability of an up-down flip.")
    quarter_turns: float = Field(1.0, ge=0, le=1, description="Probability of a turn by 0, 90, 180 or 270 degrees.")
    rotation_degrees: float = Field(
        0.0, ge=0, le=180, description="Largest rotation either way; corners become nodata."
    )
    shift: float = Field(0.0, ge=0, le=0.5, description="Largest shift along each axis, as a share of the edge.")
    zoom: float = Field(0.0, ge=0, le=0.5, description="Largest change of scale: factors from 1 - zoom to 1 + zoom.")

    brightness: float = Field(0.2, ge=0, le=0.9, description="All bands times 1 - brightness to 1 + brightness.")
    contrast: float = Field(0.2, ge=0, le=0.9, description="Distances from the mean times 1 - contrast … 1 + contrast.")
    colour: float = Field(
        0.2, ge=0, le=1, description="Differences between bands (saturation) times a factor from 1 - colour to 1 + it."
    )
    gamma: float = Field(0.0, ge=0, le=0.9, description="Reflectance to the power of 1 - gamma to 1 + gamma.")
    band_gain: float = Field(0.05, ge=0, le=0.5, description="Each band times its own 1 - band_gain to 1 + band_gain.")
    band_offset: float = Field(0.0, ge=0, le=0.2, description="Each band plus its own offset, up to this reflectance.")

    blur: float = Field(0.0, ge=0, le=1, description="Probability of a Gaussian blur.")
    blur_sigma: float = Field(1.5, gt=0, le=5, description="Largest standard deviation of the blur in pixels.")
    noise: float = Field(0.0, ge=0, le=0.1, description="Largest standard deviation of Gaussian noise, in reflectance.")
    coarser: float = Field(0.0, ge=0, le=1, description="Probability of a coarser resolution.")
    coarser_factor: float = Field(4.0, ge=1, le=8, description="Largest factor by which pixels get coarser.")
    resolution: Scale = Field(
        (1.0, 1.0),
        description="Pixel size relative to the patch's own, lowest and highest, between 1/8 and 8: things get larger "
        "or smaller in pixels. (0.33, 2) makes patches of 30 m show what sensors of 10 to 60 m do.",
    )

    saturation: float = Field(0.0, ge=0, le=1, description="Probability that the sensor clips bright pixels.")
    saturation_range: tuple[float, float] = Field(
        (0.35, 1.0), description="Reflectance at which it saturates, lowest and highest; bands differ by up to a tenth."
    )
    quantisation: float = Field(0.0, ge=0, le=1, description="Probability of a coarse digitisation with 6 to 12 bits.")
    band_dropout: float = Field(0.0, ge=0, le=1, description="Probability that one band (of several) is lost.")
    nodata_wedge: float = Field(0.0, ge=0, le=1, description="Probability of a slanted edge of nodata, as scenes have.")

    def geometric_only(self) -> "Augmentation":
        """The same flips, rotations, shifts, zooms and resolutions without any change to pixel values."""
        radiometric = ("brightness", "contrast", "colour", "gamma", "band_gain", "band_offset", "noise")
        chances = ("blur", "coarser", "saturation", "quantisation", "band_dropout", "nodata_wedge")
        return self.model_copy(update=dict.fromkeys((*radiometric, *chances), 0.0))

    @classmethod
    def none(cls) -> "Augmentation":
        """No change at all."""
        return cls(horizontal_flip=0, vertical_flip=0, quarter_turns=0).geometric_only()

    @field_validator("resolution")
    @classmethod
    def _check_resolution(cls, value: Scale) -> Scale:
        if not 1 / 8 <= value[0] <= value[1] <= 8:
            raise ValueError(f"pixels may get at most 8 times smaller or larger, not {value[0]} to {value[1]} times")
        return value
