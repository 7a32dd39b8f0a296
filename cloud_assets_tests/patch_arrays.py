"""Patch stores from arrays in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidData
from cloud_assets.patches.recipe import IMAGES, PatchRecipe
from cloud_assets.patches.store import PatchStore
from cloud_assets.patches.store_writer import Patch, PatchStoreWriter, StoreOrigin, role_of


def store_arrays(
    directory: Path,
    images: npt.NDArray[Any],
    masks: npt.NDArray[np.uint8] | None = None,
    *,
    bands: Sequence[str],
    instrument: str,
    groups: Sequence[str] | None = None,
    official_splits: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    minimum_valid: float = 0.0,
    dataset: str = "arrays",
    is_synthetic: bool = False,
    notes: Sequence[str] = (),
) -> PatchStore:
    """Writes arrays as a patch store.

    Args:
        directory: The store's folder.
        images: (N, C, H, W) digital numbers of ``instrument``.
        masks: (N, H, W) uint8 cloud codes, or None without truth.
        bands: C band names.
        instrument: Name of the instrument profile.
        groups: N names of what a split must not cut; default: every patch is its own group.
        official_splits: N times train, validation or test.
        labels: N image-level labels.
        minimum_valid: Patches with a smaller share of valid pixels are left out.
        dataset: Name of the data set.
        is_synthetic: Whether the pixels are simulated.
        notes: Anything a reader of a report should know.

    Raises:
        InvalidData: If the arrays do not fit each other or the bands.
    """
    if images.ndim != 4 or images.shape[1] != len(bands):
        raise InvalidData(f"images of shape {images.shape} are not (patches, {len(bands)} bands, height, width).")
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        raise InvalidData(f"masks of shape {masks.shape} do not fit images of shape {images.shape}.")
    recipe = PatchRecipe(bands=tuple(bands), minimum_valid=minimum_valid)
    role = role_of(instrument, tuple(bands), images.dtype, images.shape[1:])
    origin = StoreOrigin(dataset, "in memory", is_synthetic, tuple(notes))
    width = len(str(len(images)))
    with PatchStoreWriter(directory, recipe, {IMAGES: role}, masks is not None, origin) as writer:
        for number, image in enumerate(images):
            name = f"{dataset}_{number:0{width}d}"
            patch = Patch(
                patch_id=name,
                scene_id=name,
                group=name if groups is None else groups[number],
                images={IMAGES: image},
                valid=INSTRUMENTS[instrument].valid(image),
                mask=None if masks is None else masks[number],
                official_split=None if official_splits is None else official_splits[number],
                label=None if labels is None else labels[number],
            )
            writer.append(patch)
    return PatchStore.open(directory)
