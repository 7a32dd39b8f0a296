"""Saturated pixels: a band that ends before clouds do gets what a cloud reflects there by the bands that do not.

Detectors of Landsat 4 to 7 saturate over clouds, in blue from a reflectance of some 0.4, so that clouds come out hollow
and coloured. Products of level 2 mark such pixels with the largest number, those of level 1 repeat the last one; both
show as a number that many of the brightest pixels share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument

_CLOUD_COLOUR: Final = {"coastal": 0.99, "blue": 0.985, "green": 0.925, "red": 0.96, "nir": 1.0, "nir08": 1.0}
"""Reflectance of thick cloud relative to near infrared: means over overcast Landsat 8 patches of 38-Cloud."""
_DARKEST = 0.2  # reflectance below which no detector saturates
_LEAST_SHARE = 0.001
_SPIKE = 4.0  # how many times as many pixels must have the largest number as have the next one
_FEWEST_PIXELS = 1000


@dataclass(frozen=True)
class Saturation:
    """Where the bands of a scene are saturated."""

    profile: Instrument
    places: tuple[int, ...]  # of the bands that clouds are white in, in the arrays that are handed in
    colour: npt.NDArray[np.float32]  # reflectance of cloud in these bands, relative to near infrared; (K, 1, 1)
    limits: npt.NDArray[np.float64]
    """Digital number of saturated pixels in these bands, infinite where there are none; (K, 1, 1)."""

    @classmethod
    def of(cls, sample: npt.NDArray[Any], profile: Instrument, bands: Sequence[str]) -> Self | None:
        """Finds the numbers that saturated pixels have.

        Args:
            sample: (C, …) digital numbers of a scene.
            profile: The instrument that they are in.
            bands: Own names of the C bands.

        Returns:
            None if nothing is saturated, or no other band tells how bright the pixels are.
        """
        names = [profile.find(band).common_name for band in bands]
        places = tuple(place for place, name in enumerate(names) if name in _CLOUD_COLOUR)
        if not can_saturate(profile) or len(places) < 2:
            return None
        colour = np.array([_CLOUD_COLOUR[names[place]] for place in places], np.float32)[:, None, None]
        flat = sample.reshape(len(sample), -1)
        seen = flat[:, profile.valid(flat[:, None, :])[0]]
        limits = np.array([_limit(seen[place], profile) for place in places])[:, None, None]
        return cls(profile, places, colour, limits) if np.isfinite(limits).any() else None

    def completed(self, dn: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The same (C, H, W) digital numbers; saturated ones are those of a cloud as bright as the other bands say."""
        own = dn[list(self.places)]
        is_saturated = own >= self.limits
        if not is_saturated.any():
            return dn
        reflectance = self.profile.to_physical(own)
        brightness = np.where(is_saturated, 0, reflectance / self.colour).max(axis=0)
        # The largest number of level 2 only says that the pixel is saturated.
        is_code = self.limits >= np.iinfo(self.profile.dtype).max
        least = np.where(is_code, np.where(is_saturated.all(axis=0), self.colour, 0), reflectance)
        estimate = self.profile.to_dn(np.maximum(least, self.colour * brightness))
        completed = dn.copy()
        completed[list(self.places)] = np.where(is_saturated, estimate, own)
        return completed


def can_saturate(profile: Instrument) -> bool:
    """Whether clouds can be too bright for such an instrument; Sentinel-2's bands end above a reflectance of 1.3."""
    return (
        profile.unit == "reflectance"
        and np.issubdtype(np.dtype(profile.dtype), np.integer)
        and profile.bands[0].resolution_m is not None
        and not profile.name.startswith("sentinel2")
    )


def _limit(seen: npt.NDArray[Any], profile: Instrument) -> float:
    """The number that the brightest pixels of a band share; infinite if they do not."""
    if seen.size < _FEWEST_PIXELS:
        return np.inf
    top = seen.max()
    if top == np.iinfo(profile.dtype).max:
        return float(top)
    below = seen[seen < top]
    if not below.size or float(profile.to_physical(top)) < _DARKEST:
        return np.inf
    share, beside = (seen == top).sum(), (below == below.max()).sum()
    return float(top) if share >= max(_LEAST_SHARE * seen.size, _SPIKE * beside) else np.inf
