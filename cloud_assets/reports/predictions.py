"""Runs a model over patches of a store, batch by batch; bands and instrument of a store's digital numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.errors import NoUsablePatches, UnknownBand
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.statistics import band_positions
from cloud_assets.patches.store import PatchStore, Role
from cloud_assets.progress import progress_bar


@dataclass(frozen=True)
class Batch:
    """Some patches and what the model says about them."""

    indices: npt.NDArray[np.int64]  # (N,) rows of the patch store
    images: npt.NDArray[Any]  # (N, C, H, W) digital numbers, all bands of the store
    answer: Mapping[str, npt.NDArray[Any]]  # what the predictor returned


def predict_patches(
    predictor: Predictor,
    store: PatchStore,
    indices: npt.NDArray[np.int64],
    *,
    batch_size: int,
    title: str,
    progress: bool,
    role: str = IMAGES,
) -> Iterator[Batch]:
    """Predicts patches in the order of their rows (N,), by the bands that the model's card names in the card's order.

    Raises:
        NoUsablePatches: If the store lacks a band of the model.
    """
    channels = band_channels(store.roles[role], predictor.card.preprocessing.bands)
    images = store.array(role)
    with progress_bar(title, len(indices), "patches", progress) as bar:
        for start in range(0, len(indices), batch_size):
            rows = indices[start : start + batch_size]
            dn = images[rows]
            yield Batch(rows, dn, predictor.predict(dn[:, channels]))
            bar.update(len(rows))


def band_channels(role: Role, bands: Sequence[str]) -> list[int]:
    """Channel numbers of bands in a role's array, by own or common name.

    Raises:
        NoUsablePatches: If the role does not hold one of them.
    """
    try:
        return band_positions(role, bands)
    except UnknownBand as error:
        raise NoUsablePatches(
            f"The model reads the bands {', '.join(bands)}, the patches hold {', '.join(role.bands)} "
            f"of {role.instrument}. Cut the patches again with all of the model's bands."
        ) from error


def instrument_of(role: Role) -> Instrument:
    """The instrument that a store's digital numbers belong to, with the store's own nodata value."""
    instrument = INSTRUMENTS[role.instrument]
    return instrument if role.nodata is None else replace(instrument, nodata=role.nodata)
