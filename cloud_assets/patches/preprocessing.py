"""From digital numbers to what a network sees: the one preprocessing of training, evaluation, scenes and serving.

Digital number → physical unit (reflectance, dB) → clipped → normalised; nodata becomes 0 and enters no statistic.
The model card carries a :class:`Preprocessing`, so a model never meets pixels scaled in another way than in training.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.errors import InvalidRecipe

Normalisation = Literal["range", "standardise", "patch_standardise"]
Pixels = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_TEXTURE_SCALES = ((1, 3, 17), (5, 15, 31))
"""For each channel of texture, structure of single pixels and of blocks of about five: side of the means that count as
a pixel, of its neighbourhood, of the window of the covariance."""
_FAINTEST, _DECADES = 1e-4, 3  # contrast in reflectance that becomes 0, and how many decades above it become 1


class Preprocessing(BaseModel, frozen=True, extra="forbid"):
    """Scaling of raw pixels.

    ``range`` maps the clip range linearly onto ``scaled_to``. ``standardise`` subtracts the training set's mean and
    divides by its standard deviation, band by band. ``patch_standardise`` does the same with each patch's own mean and
    standard deviation over its valid pixels, which makes a model indifferent to the gain and offset of a sensor
    (Wright et al. 2024, OmniCloudMask, https://doi.org/10.1016/j.rse.2024.114122).
    """

    instrument: str = Field(description="Name of the instrument profile that the digital numbers belong to.")
    bands: tuple[str, ...] = Field(min_length=1, description="Bands in channel order, native (B04) or common (red).")
    offset: float | None = Field(
        None,
        description="Offset of this very product in physical units, from its metadata; empty: the instrument's own.",
    )
    nodata: float | None = Field(None, description="Digital number of missing pixels; empty: the instrument's own.")
    clip: tuple[float, float] = Field((0.0, 0.4), description="Physical range that is kept: reflectance 0 to 0.4, say.")
    normalisation: Normalisation = Field("range", description="How clipped values are brought to a network's scale.")
    scaled_to: tuple[float, float] = Field((0.0, 1.0), description="What range normalisation maps the clip range onto.")
    mean: tuple[float, ...] = Field((), description="Mean of each band in physical units, for standardise.")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field((), description="Deviation of each band, for standardise.")
    std_floor: float = Field(
        1e-3, gt=0, description="Smallest standard deviation to divide a patch by: noise on flat water is not contrast."
    )

    optional: tuple[str, ...] = Field(
        (),
        description="Bands, by common name, of which a product may lack one: the model learnt to do without.",
        exclude_if=lambda names: not names,
    )
    stand_ins: dict[str, str] = Field(
        {},
        description="By common names, the band that the network gets in place of a missing one; without, 0 everywhere.",
        exclude_if=lambda names: not names,
    )
    absent: tuple[tuple[int, int | None], ...] = Field(
        (),
        description="Channels of the network that this product has no band for, and which stands in for each.",
        exclude_if=lambda places: not places,
    )
    texture: bool = Field(False, description="Whether two channels of fine texture follow the bands: see fine_texture.")

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, fields: Any) -> Any:
        """Without what cards of networks on blocks used to say twice."""
        return (
            {name: fields[name] for name in fields if name != "texture_block"} if isinstance(fields, dict) else fields
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.instrument not in INSTRUMENTS:
            raise InvalidRecipe(f"there is no instrument {self.instrument!r}; there are {', '.join(INSTRUMENTS)}.")
        for band in self.bands:
            self.profile.find(band)
        if not self.clip[0] < self.clip[1]:
            raise InvalidRecipe(f"clip must rise from low to high, not {self.clip}.")
        if not self.scaled_to[0] < self.scaled_to[1]:
            raise InvalidRecipe(f"scaled_to must rise from low to high, not {self.scaled_to}.")
        if self.normalisation == "standardise" and not len(self.mean) == len(self.std) == len(self.bands) + len(
            self.absent
        ):
            raise InvalidRecipe(
                f"standardise needs a mean and a standard deviation for each of the {len(self.bands)} bands, not "
                f"{len(self.mean)} and {len(self.std)}: let patches.statistics.fitted_preprocessing compute them."
            )
        if self.texture and (self.profile.unit != "reflectance" or len(self.bands) < 2):
            raise InvalidRecipe("texture is measured between bands of reflectance: it needs two of them at least.")
        return self

    @property
    def channels(self) -> int:
        """How many channels a network sees."""
        return len(self.bands) + len(self.absent) + (len(_TEXTURE_SCALES) if self.texture else 0)

    @property
    def profile(self) -> Instrument:
        """The instrument, with this product's nodata value."""
        instrument = INSTRUMENTS[self.instrument]
        return instrument if self.nodata is None else replace(instrument, nodata=self.nodata)

    def __call__(self, dn: npt.NDArray[Any], block: Fraction = Fraction(1)) -> tuple[Pixels, Flags]:
        """Scales raw pixels, (…, C, H, W) digital numbers, channels in the order of ``bands``.

        Returns:
            (…, C, H, W) float32, 0 where there is no data; (…, H, W), True where there is, of :func:`coarser` ones.

        Raises:
            InvalidRecipe: If the number of channels is not the number of bands.
        """
        physical, valid = self.to_physical(*coarser(dn, self.profile.valid(dn), block))
        return self.normalise(physical, valid), valid

    def to_physical(self, dn: npt.NDArray[Any], known: Flags | None = None) -> tuple[Pixels, Flags]:
        """First half of :meth:`__call__`, before augmentation: physical units; ``known`` (…, H, W) hold data."""
        if dn.ndim < 3 or dn.shape[-3] != len(self.bands):
            raise InvalidRecipe(
                f"these pixels have the shape {dn.shape}; expected (…, {len(self.bands)}, height, width) "
                f"for the bands {', '.join(self.bands)}."
            )
        valid = self.profile.valid(dn) if known is None else known
        physical = self.profile.to_physical(dn, self.offset)
        np.copyto(physical, np.float32(0), where=~valid[..., None, :, :])
        for place, _ in self.absent:
            physical = np.insert(physical, place, np.float32(0), axis=-3)
        for place, stand_in in self.absent:
            if stand_in is not None:
                physical[..., place, :, :] = physical[..., stand_in, :, :]
        return physical, valid

    def normalise(self, physical: Pixels, valid: Flags) -> Pixels:
        """Second half of :meth:`__call__`: clips and brings to a network's scale; ``physical`` is not changed.

        Returns:
            (…, channels, H, W) float32, 0 where not valid.
        """
        invalid = ~valid[..., None, :, :]
        scaled = np.clip(physical, np.float32(self.clip[0]), np.float32(self.clip[1]))
        fine = fine_texture(scaled, valid) if self.texture else None
        if self.normalisation == "range":
            gain = (self.scaled_to[1] - self.scaled_to[0]) / (self.clip[1] - self.clip[0])
            scaled -= np.float32(self.clip[0])
            scaled *= np.float32(gain)
            scaled += np.float32(self.scaled_to[0])
        elif self.normalisation == "standardise":
            scaled -= _per_band(self.mean)
            scaled /= _per_band(self.std)
        else:
            _standardise_patches(scaled, invalid, np.float32(self.std_floor))
        np.copyto(scaled, np.float32(0), where=invalid)
        return scaled if fine is None else np.concatenate([scaled, fine], axis=-3)

    def denormalise(self, scaled: Pixels) -> Pixels:
        """Inverse of :meth:`normalise` (but for what was clipped): a network's scale to physical units.

        Raises:
            InvalidRecipe: For ``patch_standardise``, which forgets the patch's mean and standard deviation.
        """
        if self.normalisation == "range":
            gain = (self.clip[1] - self.clip[0]) / (self.scaled_to[1] - self.scaled_to[0])
            return (scaled - np.float32(self.scaled_to[0])) * np.float32(gain) + np.float32(self.clip[0])
        if self.normalisation == "standardise":
            return scaled * _per_band(self.std) + _per_band(self.mean)
        raise InvalidRecipe("patch_standardise cannot be undone; use range or standardise where pixels are produced.")

    def for_instrument(self, name: str, offset: float | None = None, nodata: float | None = None) -> "Preprocessing":
        """The same scaling for pixels of another instrument, bands matched by their common names.

        Raises:
            InvalidRecipe: If there is no such instrument or it measures something else (dB, not reflectance).
            UnknownBand: If it lacks a band.
        """
        if name not in INSTRUMENTS:
            raise InvalidRecipe(f"there is no instrument {name!r}; there are {', '.join(INSTRUMENTS)}.")
        own, other = INSTRUMENTS[self.instrument], INSTRUMENTS[name]
        if own.unit != other.unit:
            raise InvalidRecipe(f"{own.name} models ({own.unit}) cannot read {other.name} ({other.unit}). Use another.")
        common = tuple(other.find(own.find(band).common_name).common_name for band in self.bands)
        return self.model_copy(update={"instrument": name, "bands": common, "offset": offset, "nodata": nodata})

    def without(self, lacking: Collection[str]) -> "Preprocessing":
        """The same scaling for a product that lacks bands, by common name: another stands in, or 0 everywhere."""
        names = [self.profile.find(band).common_name for band in self.bands]
        places = {name: place for place, name in enumerate(names)}
        absent = tuple((places[name], places.get(self.stand_ins.get(name, ""))) for name in names if name in lacking)
        present = tuple(band for band, name in zip(self.bands, names, strict=True) if name not in lacking)
        return self.model_copy(update={"bands": present, "absent": absent})


def _per_band(values: Sequence[float]) -> Pixels:
    return np.asarray(values, np.float32)[:, None, None]


def _standardise_patches(scaled: Pixels, invalid: Flags, floor: np.float32) -> None:
    """Standardises (…, C, H, W) in place over the valid pixels of each patch and band."""
    axes = (-2, -1)
    count = np.maximum(np.sum(~invalid, axis=axes, keepdims=True), 1).astype(np.float32)
    np.copyto(scaled, np.float32(0), where=invalid)
    scaled -= np.sum(scaled, axis=axes, keepdims=True) / count
    np.copyto(scaled, np.float32(0), where=invalid)
    variance = np.sum(np.square(scaled), axis=axes, keepdims=True) / count
    scaled /= np.maximum(np.sqrt(variance), floor)


def coarser(pixels: npt.NDArray[Any], valid: Flags, block: Fraction) -> tuple[npt.NDArray[Any], Flags]:
    """Pixels (…, C, H, W) as larger ones of a side of ``block`` pixels, at most 2: means of those that hold data.

    Beside them are flags, ``valid`` (…, H, W) and False where less than half of the pixels hold data. The last row and
    column may reach past the picture.
    """
    if block == 1:
        return pixels, valid
    if pixels.dtype not in (np.uint8, np.uint16, np.int16):
        pixels = pixels.astype(np.float32, copy=False)
    *many, _, height, width = pixels.shape
    margins = [(0, 0)] * len(many) + [(0, -side % block.numerator) for side in (height, width)]
    flags = np.pad(valid, margins, mode="edge").astype(np.float32)
    filled = np.pad(pixels, [*margins[:-2], (0, 0), *margins[-2:]], mode="edge")
    if flags.all():
        return resized(filled, 1 / block), resized(flags, 1 / block) > 0
    share = resized(flags, 1 / block)
    known, weights = share >= 0.5, np.maximum(share, np.float32(1e-6))[..., np.newaxis, :, :]
    means = resized(np.where(flags[..., np.newaxis, :, :] > 0, filled, 0).astype(np.float32), 1 / block) / weights
    means = np.rint(means) if np.issubdtype(pixels.dtype, np.integer) else means
    return np.where(known[..., np.newaxis, :, :], means, 0).astype(pixels.dtype), known


def resized(values: npt.NDArray[Any], factor: Fraction) -> npt.NDArray[Any]:
    """Layers (…, H, W) on as many more pixels a side, linearly between the nearest ones."""
    import cv2

    *many, height, width = values.shape
    shape = int(height * factor), int(width * factor)
    result = np.empty((*many, *shape), values.dtype)
    for layer, larger in zip(values.reshape(-1, height, width), result.reshape(-1, *shape), strict=True):
        cv2.resize(layer, shape[::-1], dst=larger, interpolation=cv2.INTER_LINEAR)
    return result


def fine_texture(reflectance: Pixels, valid: Flags) -> Pixels:
    """Fine texture that several bands share: what tells windblown snow from a featureless cloud of the same colour.

    Noise differs from band to band, relief does not: the covariance between bands of what is left of each after its
    neighbourhood is taken away is that of real structure, even where it is half as strong as the noise. Networks see it
    badly by themselves: it is a thousandth of their input's range, less than their arithmetic of 16 bits resolves.

    Args:
        reflectance: (…, C, H, W), two bands or more.
        valid: (…, H, W) bool, False without data.

    Returns:
        (…, 2, H, W) float32 in [0, 1], the logarithm of the contrast at two scales: 0 for 0.0001 of reflectance or
        less, 1 for 0.1 or more; 0 where there are no data or their edge is too near to tell.
    """
    *many, bands, height, width = reflectance.shape
    pictures = reflectance.reshape(-1, bands, height, width)
    flat_valid = valid.reshape(-1, height, width)
    result = np.empty((len(pictures), len(_TEXTURE_SCALES), height, width), np.float32)
    for picture, has_data, texture in zip(pictures, flat_valid, result, strict=True):
        for channel, scale in zip(texture, _TEXTURE_SCALES, strict=True):
            channel[:] = _shared_contrast(picture, has_data.astype(np.float32), *scale)
    return result.reshape(*many, len(_TEXTURE_SCALES), height, width)


def _shared_contrast(picture: Pixels, has_data: Pixels, side: int, neighbourhood: int, window: int) -> Pixels:
    """One channel (H, W) of a picture (C, H, W)."""
    import cv2

    total, squares = np.zeros_like(has_data), np.zeros_like(has_data)
    for band in picture:
        detail = _mean(band, side) - _mean(band, neighbourhood)
        cv2.accumulate(detail, total)
        cv2.accumulateSquare(detail, squares)
    # The mean of products of different bands, from the square of their sum.
    covariance = (np.square(total, out=total) - squares) / np.float32(len(picture) * (len(picture) - 1))
    if not has_data.all():
        inner = (_mean(has_data, neighbourhood) > 1 - 1e-4).astype(np.float32)
        covariance = _mean(covariance * inner, window) / np.maximum(_mean(inner, window), np.float32(1e-4))
        covariance *= has_data
    else:
        covariance = _mean(covariance, window)
    # Half the logarithm of the square: NumPy's natural one takes a third of the time of that to the base of ten.
    contrast = np.log(np.maximum(covariance * np.float32(_FAINTEST**-2), np.float32(1)))
    return np.minimum(contrast * np.float32(0.5 / (_DECADES * np.log(10))), np.float32(1))


def _mean(array: Pixels, side: int) -> Pixels:
    """Means over squares of (H, W), mirrored at the border."""
    if side == 1:
        return array
    import cv2

    return np.asarray(cv2.blur(array, (side, side), borderType=cv2.BORDER_REFLECT_101), np.float32)
