"""Reads co-registered radar and optical patches of a store in physical units, for scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.translation.card_section import TranslationSection
from cloud_assets.reports.predictions import band_channels

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelCard
    from cloud_assets.patches.store import PatchStore


class Pairs:
    """The pairs of a store as a translation model names them.

    Raises:
        NoUsablePatches: If the store lacks a role or a band.
    """

    def __init__(self, store: PatchStore, card: ModelCard) -> None:
        section = TranslationSection.of(card)
        self.store, self.target, self.bands = store, section.target, section.target.bands
        self.input_role, self.output_role = section.input_role, section.output_role
        for role in (self.input_role, self.output_role):
            if role not in store.roles:
                raise NoUsablePatches(f"{store.directory} has no role {role!r}; it has {', '.join(store.roles)}.")
        self._input = card.preprocessing
        self._input_channels = band_channels(store.roles[self.input_role], card.bands)
        self._output_channels = band_channels(store.roles[self.output_role], self.bands)

    def backscatter(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """(N, C, H, W) raw radar values of some rows, bands in the model's order."""
        return self.store.array(self.input_role)[indices][:, self._input_channels]

    def reflectance(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """(N, K, H, W) true reflectance, clipped as the model's output is, and where both sensors saw (N, H, W)."""
        dn = self.store.array(self.output_role)[indices][:, self._output_channels]
        physical, valid = self.target.to_physical(dn)
        seen = self._input.profile.valid(self.backscatter(indices))
        return np.clip(physical, *self.target.clip), valid & seen

    def read(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Backscatter (C, H, W), reflectance (K, H, W) and validity (H, W) of one row."""
        row = np.array([index])
        reflectance, valid = self.reflectance(row)
        return self.backscatter(row)[0].astype(np.float32), reflectance[0], valid[0]
