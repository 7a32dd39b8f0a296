"""Random changes to training patches. The one module that knows albumentations, so that it can be replaced.

albumentations 2.0.8 is the last release under the MIT licence. Its own radiometric transforms clip to [0, 1] or accept
only 1 or 3 channels; ours take any number of bands and leave values unclipped.
"""

import os
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import UNLABELLED
from cloud_assets.patches.augmentation import Augmentation

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network for a newer release at import

import albumentations
import cv2

Image = npt.NDArray[np.float32]


class Augmented(NamedTuple):
    """An augmented patch."""

    image: Image  # (H, W, C), 0 where there is no data
    mask: npt.NDArray[np.uint8]  # (H, W) cloud codes, or (H, W, K) as given; 255 where there is no data
    valid: npt.NDArray[np.bool_]  # (H, W)


class Augmenter:
    """Augments patches; the same key gives the same result in any process and order."""

    def __init__(self, recipe: Augmentation, optional: Sequence[tuple[int, int | None]] = ()) -> None:
        """``optional`` are the bands that ``band_dropout`` takes away, and what stands in for each; none: any, by 0."""
        cv2.setNumThreads(1)  # loaders and training steps share the cores already
        self.recipe = recipe
        steps: list[Any] = [
            albumentations.HorizontalFlip(p=recipe.horizontal_flip),
            albumentations.VerticalFlip(p=recipe.vertical_flip),
            albumentations.RandomRotate90(p=recipe.quarter_turns),
        ]
        if recipe.rotation_degrees or recipe.shift or recipe.zoom:
            steps.append(
                albumentations.Affine(
                    rotate=(-recipe.rotation_degrees, recipe.rotation_degrees),
                    translate_percent=(-recipe.shift, recipe.shift),
                    scale=(1 - recipe.zoom, 1 + recipe.zoom),
                    fill=0,
                    fill_mask=UNLABELLED,
                    p=1,
                )
            )
        if recipe.coarser:
            steps.append(_Coarser(recipe.coarser_factor, p=recipe.coarser))
        if recipe.blur:
            steps.append(albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.1, recipe.blur_sigma), p=recipe.blur))
        if recipe != recipe.geometric_only():
            steps.append(_Radiometry(recipe, optional))
        self._compose = albumentations.Compose(steps, additional_targets={"missing": "mask"})

    def __call__(
        self,
        image: Image,
        mask: npt.NDArray[np.uint8] | None = None,
        valid: npt.NDArray[np.bool_] | None = None,
        *,
        key: tuple[int, ...],
    ) -> Augmented:
        """Augments one patch; nodata stays nodata, and what a rotation or a wedge uncovers becomes nodata.

        Args:
            image: (H, W, C) float32 in physical units; not changed.
            mask: (H, W) or (H, W, K) uint8 cloud codes, or what else belongs to pixels; default: all unlabelled.
            valid: (H, W) bool; default: all valid.
            key: What the randomness depends on, for example (seed, epoch, index).
        """
        generator = np.random.default_rng(key)
        valid = np.ones(image.shape[:2], bool) if valid is None else valid
        mask = np.full(image.shape[:2], UNLABELLED, np.uint8) if mask is None else mask
        if not valid.all():
            image = _filled(image, valid)
        low, high = self.recipe.resolution
        if low != high or low != 1:
            factor = float(np.exp(generator.uniform(np.log(low), np.log(high))))
            image, mask, valid = change_resolution(image, mask, valid, factor, (generator.random(), generator.random()))
        missing = np.where(valid, 0, UNLABELLED).astype(np.uint8)
        # The library's own set_random_seed gives every step the same numbers, so that flips and turns go together.
        shared = random.Random(int(generator.integers(2**63)))  # noqa: S311 no cryptography
        for step in self._compose.transforms:
            step.set_random_state(generator, shared)
        result = self._compose(image=image, mask=mask, missing=missing)
        image, mask, valid = result["image"], result["mask"], result["missing"] == 0
        if generator.random() < self.recipe.nodata_wedge:
            valid = valid & _wedge(generator, valid.shape)
        if not valid.all():
            image, mask = image.copy(), mask.copy()  # without any change the library hands back what it was given
            image[~valid], mask[~valid] = 0, UNLABELLED
        return Augmented(np.ascontiguousarray(image), np.ascontiguousarray(mask), np.ascontiguousarray(valid))


class _Coarser(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Averages over blocks of a random, not necessarily whole, number of pixels and interpolates back."""

    def __init__(self, factor: float, p: float) -> None:
        super().__init__(p=p)
        self.factor = factor

    def get_params(self) -> dict[str, Any]:
        """Draws the factor."""
        return {"by": self.py_random.uniform(1, self.factor)}

    def apply(self, img: Image, by: float, **_: Any) -> Image:
        """Changes an image."""
        height, width = img.shape[:2]
        small = resize_bands(img, (max(1, round(height / by)), max(1, round(width / by))), cv2.INTER_AREA)
        return resize_bands(small, (height, width), cv2.INTER_LINEAR)


class _Radiometry(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Gains, offsets, contrast, colour, gamma, noise and the sensor's limits."""

    def __init__(self, recipe: Augmentation, optional: Sequence[tuple[int, int | None]]) -> None:
        super().__init__(p=1)
        self.recipe, self.optional = recipe, optional

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws everything that is random."""
        recipe, draw = self.recipe, self.random_generator
        bands = params["shape"][2]
        optional = self.optional or [(band, None) for band in range(bands)]
        gain = _factor(draw, recipe.brightness) * _factor(draw, recipe.band_gain, bands)
        offset = draw.uniform(-recipe.band_offset, recipe.band_offset, bands)
        contrast, colour = _factor(draw, recipe.contrast), _factor(draw, recipe.colour)
        mean = gain * _band_means(data["image"]) + offset
        # Contrast turns about each band's mean, colour about the mean of the bands: together one matrix and one vector.
        mixing = colour * np.eye(bands) + (1 - colour) / bands
        saturates = draw.random() < recipe.saturation
        loses_a_band = draw.random() < recipe.band_dropout and bands > 1
        return {
            "matrix": (mixing * (gain * contrast)).T.astype(np.float32),
            "vector": (mixing @ (offset * contrast + mean * (1 - contrast))).astype(np.float32),
            "gamma": _factor(draw, recipe.gamma),
            "noise": draw.uniform(0, recipe.noise),
            "limits": draw.uniform(*recipe.saturation_range) * _factor(draw, 0.1, bands) if saturates else None,
            "levels": 2.0 ** draw.integers(6, 13) if draw.random() < recipe.quantisation else None,
            "lost": optional[draw.integers(len(optional))] if loses_a_band else None,
            "noise_seed": int(draw.integers(2**31)),
        }

    def apply(
        self,
        img: Image,
        matrix: Image,
        vector: Image,
        gamma: float,
        noise: float,
        limits: npt.NDArray[np.float64] | None,
        levels: float | None,
        lost: tuple[int, int | None] | None,
        noise_seed: int,
        **_: Any,
    ) -> Image:
        """Changes an image."""
        changed: Image = img.reshape(-1, img.shape[-1]) @ matrix
        changed += vector
        if gamma != 1:
            np.power(changed, np.float32(gamma), out=changed, where=changed > 0)
        if noise:
            grain = np.random.default_rng(noise_seed).standard_normal(changed.shape, dtype=np.float32)
            grain *= np.float32(noise)
            changed += grain
        if limits is not None:
            np.minimum(changed, limits.astype(np.float32), out=changed)
        if levels is not None:
            changed *= np.float32(levels)
            np.rint(changed, out=changed)
            changed /= np.float32(levels)
        if lost is not None:
            changed[:, lost[0]] = 0 if lost[1] is None else changed[:, lost[1]]
        return changed.reshape(img.shape)


def _factor(draw: np.random.Generator, strength: float, count: int | None = None) -> Any:
    return draw.uniform(1 - strength, 1 + strength, count)


def _filled(image: Image, valid: npt.NDArray[np.bool_]) -> Image:
    """Fills nodata with each band's mean, so that blurs and coarser pixels do not bleed darkness into its edges."""
    filled = image.copy()
    filled[~valid] = _band_means(image) * (valid.size / max(int(valid.sum()), 1))  # nodata is 0 and adds nothing
    return filled


def _band_means(image: Image) -> Image:
    pixels = image.reshape(-1, image.shape[-1])
    weights = np.full(len(pixels), 1 / len(pixels), np.float32)
    return weights @ pixels  # several times faster than mean() over two long axes beside a short one


def _wedge(draw: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """True on one side of a random line that leaves at least about half of the area."""
    angle = draw.uniform(0, 2 * np.pi)
    down, right = np.linspace(-0.5, 0.5, shape[0])[:, None], np.linspace(-0.5, 0.5, shape[1])[None]
    beyond: npt.NDArray[np.bool_] = down * np.sin(angle) + right * np.cos(angle) < draw.uniform(0.0, 0.5)
    return beyond


def change_resolution(
    image: Image, mask: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], factor: float, corner: tuple[float, float]
) -> tuple[Image, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Shows a patch (H, W, C) with larger or smaller pixels, in arrays of the same sizes.

    With a factor above 1 pixels are averaged and the rest of the array is filled by mirroring; below 1 a part of the
    patch is enlarged, which lies at ``corner``: 0 at the upper or left edge, towards 1 at the other one. Nodata of the
    image should be filled, lest it bleeds into its edges.
    """
    shape = valid.shape
    sides = [max(1, round(length / factor)) if factor > 1 else max(1, round(length * factor)) for length in shape]
    if factor > 1:
        small = resize_bands(image, (sides[0], sides[1]), cv2.INTER_AREA)
        rows, columns = (
            np.pad(np.arange(side), (0, length - side), mode="symmetric")  # back and forth over what there is
            for side, length in zip(sides, shape, strict=True)
        )
        nearest = [
            np.minimum((np.arange(s) + 0.5) * (n / s), n - 1).astype(int) for s, n in zip(sides, shape, strict=True)
        ]
        where = np.ix_(nearest[0][rows], nearest[1][columns])
        return small[rows][:, columns], mask[where], valid[where]
    first = [int(share * (n - s + 1)) for share, s, n in zip(corner, sides, shape, strict=True)]
    window = (slice(first[0], first[0] + sides[0]), slice(first[1], first[1] + sides[1]))
    nearest = [f + np.arange(n) * s // n for f, s, n in zip(first, sides, shape, strict=True)]
    where = np.ix_(*nearest)
    large = resize_bands(np.ascontiguousarray(image[window]), (shape[0], shape[1]), cv2.INTER_LINEAR)
    return large, mask[where], valid[where]


def resize_bands(image: Image, size: tuple[int, int], interpolation: int) -> Image:
    """Resizes (H, W, C) of any number of bands to (height, width); OpenCV takes at most four at once."""
    parts = [
        np.atleast_3d(cv2.resize(image[..., first : first + 4], size[::-1], interpolation=interpolation))
        for first in range(0, image.shape[2], 4)
    ]
    return np.concatenate(parts, axis=2)
