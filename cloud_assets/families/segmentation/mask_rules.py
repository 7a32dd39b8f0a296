"""Anything that makes cloud masks out of a store's digital numbers: trained models, thresholds, other packages."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, UNLABELLED
from cloud_assets.errors import NoUsablePatches
from cloud_assets.reports.composites import instrument_of
from cloud_assets.reports.predictions import band_channels

if TYPE_CHECKING:
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import Role

_UKIS_BANDS = ("blue", "green", "red", "nir")
_UKIS_CODES = np.array([CLEAR, THICK_CLOUD, CLOUD_SHADOW], np.uint8)


class MaskRule(Protocol):
    """Makes masks."""

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Cloud codes (N, H, W), 255 nodata, from digital numbers (N, C, H, W) of all bands of the role."""


@dataclass(frozen=True)
class ModelMask:
    """A trained model as a rule."""

    predictor: Predictor
    """The model."""
    role: Role
    """What the digital numbers are."""

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """See :class:`MaskRule`."""
        channels = band_channels(self.role, self.predictor.card.preprocessing.bands)
        return np.asarray(self.predictor.predict(dn[:, channels])["mask"])


@dataclass(frozen=True)
class UkisMask:
    """The package ukis-csmask (Wieland et al. 2019, https://doi.org/10.1016/j.rse.2019.05.022), trained on a large set.

    Reads blue, green, red and near infrared; works best at 30 m.
    """

    role: Role
    """What the digital numbers are."""

    @staticmethod
    def is_installed() -> bool:
        """Whether the package is there: ``pip install -e ".[peers]"``."""
        return all(importlib.util.find_spec(name) is not None for name in ("ukis_csmask", "onnxruntime"))

    @classmethod
    def fitting(cls, role: Role) -> UkisMask | None:
        """The rule for a role; None if the package is not installed or the role lacks one of its bands."""
        try:
            band_channels(role, _UKIS_BANDS)
        except NoUsablePatches:
            return None
        return cls(role) if cls.is_installed() else None

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """See :class:`MaskRule`."""
        from ukis_csmask.mask import CSmask

        instrument = instrument_of(self.role)
        channels = band_channels(self.role, _UKIS_BANDS)
        masks = []
        for patch in dn:
            valid = instrument.valid(patch)
            reflectance = np.where(valid, instrument.to_physical(patch[channels]), 0).astype(np.float32)
            found = CSmask(
                img=np.ascontiguousarray(np.moveaxis(reflectance, 0, -1)),
                band_order=list(_UKIS_BANDS),
                product_level="l1c",
                intra_op_num_threads=1,
                providers=["CPUExecutionProvider"],
            )
            masks.append(np.where(valid, _UKIS_CODES[found.csm[..., 0]], np.uint8(UNLABELLED)))
        return np.stack(masks)
