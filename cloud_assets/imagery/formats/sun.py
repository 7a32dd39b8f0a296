"""The height of the sun above the horizon: night, low sun, and the correction of level 1 of Landsat for it.

Landsat's level 1 states reflectance as if the sun stood overhead; divided by the sine of its elevation it is the
reflectance at the top of the atmosphere (Landsat 8 Data Users Handbook, section 5.2).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.scene_reader import SceneBand

_LOW_SUN = 5.0
"""Degrees above the horizon below which a warning is given."""


def sun_notes(location: str, elevation: float | None) -> tuple[str, ...]:
    """What the height of the sun makes uncertain.

    Args:
        location: The scene, for messages.
        elevation: Degrees above the horizon at the scene's centre; None: unknown.

    Raises:
        InvalidScene: If the sun was below the horizon: there is no reflected light to see clouds by.
    """
    if elevation is None:
        return ()
    if elevation <= 0:
        raise InvalidScene(
            f"{location}: the sun was {-elevation:.1f} degrees below the horizon. Cloud masks need reflected "
            "sunlight; night scenes are not masked."
        )
    if elevation < _LOW_SUN:
        return (f"The sun was only {elevation:.1f} degrees above the horizon: clouds and shadows are hard to tell.",)
    return ()


def sun_corrected(
    instrument: str, bands: Mapping[str, SceneBand], elevation: float | None
) -> tuple[str, dict[str, SceneBand]]:
    """Level 1 as reflectance at the top of the atmosphere, where the height of the sun is known.

    Args:
        instrument: Key in :data:`cloud_assets.bands.INSTRUMENTS`.
        bands: As the product scales them.
        elevation: Degrees above the horizon.

    Returns:
        The instrument whose numbers a reader hands out now, and the bands.
    """
    corrected = instrument.replace("_l1", "_toa")
    if elevation is None or INSTRUMENTS[instrument].is_sun_corrected or corrected not in INSTRUMENTS:
        return instrument, dict(bands)
    return corrected, _times(instrument, bands, 1 / math.sin(math.radians(elevation)))


def before_correction(
    instrument: str, bands: Mapping[str, SceneBand], elevation: float
) -> tuple[str, dict[str, SceneBand]]:
    """The inverse of :func:`sun_corrected`, for models that learnt from level 1 as it comes."""
    return instrument.replace("_toa", "_l1"), _times(instrument, bands, math.sin(math.radians(elevation)))


def _times(instrument: str, bands: Mapping[str, SceneBand], factor: float) -> dict[str, SceneBand]:
    profile = INSTRUMENTS[instrument]
    return {
        name: replace(
            band,
            scale=(profile.scale if band.scale is None else band.scale) * factor,
            offset=(profile.offset if band.offset is None else band.offset) * factor,
        )
        for name, band in bands.items()
    }
