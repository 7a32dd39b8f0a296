"""Predictor of the fifth family, and what it finds beside what is true."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import Predictor, check_input
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.statistics import band_positions
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.families.fifth_family.family import CoverSection


class CoverPredictor(Predictor):
    """Mean of a network's output plus an offset."""

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        super().__init__(bundle, device, network)
        self._offset = CoverSection.of(bundle.card).offset

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        return {"cover": self._in_batches(self.network_input(dn), self._cover, ())}

    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return self.card.preprocessing(check_input(dn, self.card))[0]

    def _cover(self, batch: Tensor) -> Tensor:
        return self._network(batch).float().sigmoid().mean(dim=(1, 2, 3)) + self._offset


def covers(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    channels = band_positions(store.roles[IMAGES], predictor.card.bands)
    return predictor.predict(store.array()[rows][:, channels])["cover"].astype(np.float64)


def truth_of(store: PatchStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return store.index["cloud_percentage"].to_numpy(dtype=np.float64)[rows] / 100
