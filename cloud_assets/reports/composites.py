"""Colour pictures of patches, for figures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.errors import NoUsablePatches
from cloud_assets.reports.predictions import band_channels

if TYPE_CHECKING:
    from cloud_assets.patches.store import Role

TRUE_COLOUR = ("red", "green", "blue")
FALSE_COLOUR = ("nir", "red", "green")
STRETCH_NOTE = "brightness stretched patch by patch (1st to 99th percentile, shadows lifted)"
_SMALLEST_RANGE = 0.1
_NODATA_GREY = 0.5
_GAMMA = 0.7

Picture = npt.NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""


def composite(dn: npt.NDArray[Any], role: Role, bands: tuple[str, str, str]) -> Picture | None:
    """A colour picture of a patch.

    The three bands share one stretch, so that grey stays grey; it never spans less than a reflectance of 0.1, so that
    noise on dark water is not blown up to a pattern. Dark ground beside bright cloud is lifted (gamma 0.7).

    Args:
        dn: (C, H, W) digital numbers, all bands of the role.
        role: What they are.
        bands: Bands to show as red, green and blue, by common name.

    Returns:
        (H, W, 3) in [0, 1], nodata grey; None if the role lacks one of the bands or holds no reflectance.
    """
    if INSTRUMENTS[role.instrument].unit != "reflectance":
        return None
    try:
        channels = band_channels(role, bands)
    except NoUsablePatches:
        return None
    instrument = instrument_of(role)
    shown, valid = instrument.to_physical(dn[channels]), instrument.valid(dn)
    if not valid.any():
        return np.full((*valid.shape, 3), _NODATA_GREY, np.float32)
    low, high = np.percentile(shown[:, valid], [1, 99])
    stretched = np.clip((shown - low) / max(high - low, _SMALLEST_RANGE), 0, 1) ** _GAMMA
    return np.moveaxis(np.where(valid, stretched, _NODATA_GREY), 0, -1).astype(np.float32)


def instrument_of(role: Role) -> Instrument:
    """The instrument that a store's digital numbers belong to, with the store's own nodata value."""
    instrument = INSTRUMENTS[role.instrument]
    return instrument if role.nodata is None else replace(instrument, nodata=role.nodata)
