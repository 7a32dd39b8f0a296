"""Lays simulated clouds over real training patches and labels them on the way.

Clear patches are the ones that small training sets have in plenty and learn least from. A bank of precomputed cloud
fields, shifted, mirrored and turned at random, makes each of them a new cloudy patch at every epoch, for a few percent
of a training step at most (``benchmarks/augmentation_cost.py``).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, INSTRUMENTS, UNLABELLED
from cloud_assets.errors import InvalidRecipe
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation import spectra
from cloud_assets.simulation.clouds import CloudField, CloudRecipe, composite_clouds, draw_sun, simulate_clouds
from cloud_assets.simulation.patch import dim, draw_brightness, draw_haze, patch_generator

Image = npt.NDArray[np.float32]
_MOST_CLOUD_PERCENTAGE = 5.0


class CloudCompositor:
    """Composites clouds onto patches; the same key gives the same clouds in any process and order.

    Args:
        instrument: Name of the instrument of the patches; tells their bands and pixel size.
        bands: Band names of the patches, native or common, in channel order.
        clouds: Ranges to draw clouds from; cloudless skies are left out.
        illumination: Lowest and highest reflectance of a white surface in the patches; below 1 without sun correction.
        sun_elevation: Range of the sun's height in degrees, for the shadows.
        ozone: Range of the ozone column relative to an ordinary one.
        haze: Range of the optical depth at 550 nm of the haze under the clouds; None for none. It is not labelled.
        fields: Number of cloud fields in the bank; each takes about 20 bytes x size².
        size: Edge of the fields in pixels; they are periodic, so patches may be smaller or larger.
        seed: Seed of the bank.

    Raises:
        InvalidRecipe: If the instrument measures no reflectance.
        UnknownBand: If it lacks a band.
    """

    def __init__(
        self,
        instrument: str,
        bands: tuple[str, ...],
        clouds: CloudRecipe | None = None,
        *,
        illumination: tuple[float, float] = (0.7, 1.05),
        sun_elevation: tuple[float, float] = (18.0, 70.0),
        ozone: tuple[float, float] = (1.0, 1.0),
        haze: tuple[float, float] | None = None,
        fields: int = 48,
        size: int = 256,
        seed: int = 0,
    ) -> None:
        profile = INSTRUMENTS[instrument]
        if profile.unit != "reflectance":
            raise InvalidRecipe(f"clouds can only be laid over reflectance, not over {profile.unit} of {instrument}.")
        found = [profile.find(band) for band in bands]
        self.bands = tuple(band.common_name for band in found)
        self.illumination = illumination
        self.haze = haze
        recipe = (clouds or CloudRecipe()).model_copy(update={"none": 0.0})
        metres = min((band.resolution_m for band in found if band.resolution_m), default=10.0)
        self._bank = []
        for number in range(fields):
            rng = patch_generator(seed, number)
            sun = draw_sun(rng, sun_elevation, ozone)
            self._bank.append(simulate_clouds(rng, (size, size), sun, metres, recipe))

    def __call__(
        self, reflectance: Image, mask: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], *, key: tuple[int, ...]
    ) -> tuple[Image, npt.NDArray[np.uint8]]:
        """Lays one cloud field over one patch, (C, H, W) reflectance as :meth:`Preprocessing.to_physical` gives it.

        The randomness depends on the ``key``, for example (seed, epoch, index), alone.

        Returns:
            New reflectance and mask. Clouds that were there stay labelled; unlabelled and nodata pixels stay 255.
        """
        rng = np.random.default_rng(key)
        field = _moved(self._bank[int(rng.integers(len(self._bank)))], rng, valid.shape)
        illumination = float(rng.uniform(*self.illumination))
        below = reflectance if self.haze is None else self._hazy(reflectance, rng, self.haze, illumination)
        composite, added = composite_clouds(below, field, self.bands, illumination)
        composite[:, ~valid] = 0
        return composite, merged_labels(mask, added, valid)

    def _hazy(
        self, reflectance: Image, rng: np.random.Generator, depths: tuple[float, float], illumination: float
    ) -> Image:
        haze = draw_haze(rng, (reflectance.shape[1], reflectance.shape[2]), depths) * draw_brightness(rng)
        result = reflectance.copy()
        for band, scattering in zip(result, spectra.aerosol(self.bands), strict=True):
            veil = haze * scattering
            dim(band, veil)
            band += veil * np.float32(illumination)
        return result


def merged_labels(
    mask: npt.NDArray[np.uint8], added: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Labels (H, W) of a patch ``mask`` after clouds ``added`` were laid over it.

    Thick wins over thin, thin over shadow, shadow over clear; 255 stays where nothing can be known.
    """
    rank = np.zeros(256, np.uint8)
    rank[[CLEAR, 3, 2, 1]] = range(4)
    merged = np.where(rank[added] > rank[mask], added, mask)
    merged[(mask == UNLABELLED) | ~valid] = UNLABELLED
    return merged


def clear_patches(store: PatchStore, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of the given rows with so little cloud that they can be clouded; none without any label."""
    coverage = store.index["cloud_percentage"].to_numpy()[indices]
    return indices[coverage <= _MOST_CLOUD_PERCENTAGE]


def _moved(field: CloudField, rng: np.random.Generator, shape: tuple[int, ...]) -> CloudField:
    """Shifts, mirrors and turns a periodic field, and cuts it to a shape."""
    rows, cols = (
        (int(rng.integers(length)) + np.arange(wanted)) % length
        for length, wanted in zip(field.mask.shape, shape, strict=True)
    )
    if rng.random() < 0.5:
        rows = rows[::-1]
    if rng.random() < 0.5:
        cols = cols[::-1]
    is_turned = rng.random() < 0.5

    def moved(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray((array.T if is_turned else array).take(rows, axis=0).take(cols, axis=1))

    arrays: dict[str, Any] = {name: moved(one) for name, one in vars(field).items() if isinstance(one, np.ndarray)}
    return replace(field, **arrays)
