"""Reader of a scene that is in memory."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.errors import InvalidData
from cloud_assets.imagery.tiling.windows import Window


class ArrayReader:
    """Windows of an array.

    Args:
        dn: (C, H, W) digital numbers.
        profile: The instrument that took them.

    Raises:
        InvalidData: If the array has another number of axes, or no pixels.
    """

    def __init__(self, dn: npt.NDArray[Any], profile: Instrument) -> None:
        if dn.ndim != 3 or dn.size == 0:
            raise InvalidData(f"A scene is an array (bands, height, width) of digital numbers; got {dn.shape}.")
        self._dn = dn
        self._profile = profile

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Reads (C, height, width); what lies outside is the scene reflected at its border."""
        inside = window.inside(*self._dn.shape[1:])
        return window.mirrored(self._dn[:, *inside.slices], inside)

    def valid(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which pixels (…, height, width) of (…, C, height, width) digital numbers were observed."""
        return self._profile.valid(dn)
