"""Patch stores of simulated patches, cached by a hash of all that decides about their pixels."""

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidData, InvalidRecipe
from cloud_assets.patches.recipe import IMAGES, PatchRecipe
from cloud_assets.patches.store import PatchStore
from cloud_assets.patches.store_writer import Patch, PatchStoreWriter, StoreOrigin, role_of
from cloud_assets.simulation import PHYSICS_VERSION
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.worker_processes import map_in_processes

NOTE = "Simulated pixels: land, clouds, shadows and sensor are made up, no satellite saw them."


class SimulationOrder(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides about the pixels of a series of simulated patches."""

    instrument: str = Field(description="Instrument whose digital numbers are simulated.")
    bands: tuple[str, ...] = Field(min_length=1, description="Band names, native or common, in channel order.")
    size: int = Field(ge=16, description="Edge of the patches in pixels.")
    seed: int = Field(0, ge=0, description="Seed of the series; patch number i depends on it and on i only.")
    recipe: SimulationRecipe = Field(default_factory=SimulationRecipe, description="Ranges to draw from.")


def simulated_store(
    cache: Path,
    *,
    instrument: str,
    bands: Sequence[str],
    size: int,
    count: int,
    seed: int = 0,
    recipe: SimulationRecipe | None = None,
    workers: int = 2,
    progress: bool = True,
) -> PatchStore:
    """Opens a store of ``count`` simulated patches, simulating them first if the cache does not hold them.

    In the folder ``cache`` each store has a folder of its own, named by a hash of the recipe, the arguments and the
    version of the physics; only complete stores are ever seen there. Masks hold cloud codes, the column ``attributes``
    of the index tells biome and sky. Arguments are as in :class:`SimulationOrder`; ``workers`` are processes.

    Raises:
        InvalidRecipe: If the instrument measures no reflectance, or the recipe contradicts itself.
        UnknownBand: If the instrument lacks a band.
        TrainingFailed: If a simulating process ended early.
    """
    if INSTRUMENTS[instrument].unit != "reflectance":
        raise InvalidRecipe(f"clouds need reflectance; {instrument} measures {INSTRUMENTS[instrument].unit}.")
    for band in bands:
        INSTRUMENTS[instrument].find(band)
    order = SimulationOrder(
        instrument=instrument, bands=tuple(bands), size=size, seed=seed, recipe=recipe or SimulationRecipe()
    )
    version = blake2b(f"{order.model_dump_json()} {count} {PHYSICS_VERSION}".encode(), digest_size=16).hexdigest()
    directory = cache / f"simulated_{version}"
    try:
        return PatchStore.open(directory)
    except InvalidData:
        _simulate(order, count, directory, version, workers, progress)
    return PatchStore.open(directory)


def _simulate(order: SimulationOrder, count: int, directory: Path, version: str, workers: int, progress: bool) -> None:
    recipe = PatchRecipe(bands=order.bands, size=order.size, minimum_valid=0)
    profile = INSTRUMENTS[order.instrument]
    role = role_of(order.instrument, order.bands, profile.dtype, (len(order.bands), order.size, order.size))
    origin = StoreOrigin("simulation", version, True, (NOTE,))
    patches = map_in_processes(
        partial(_simulated, order), range(count), count, workers=workers, label="Simulating patches", progress=progress
    )
    with closing(patches), PatchStoreWriter(directory, recipe, {IMAGES: role}, True, origin) as writer:
        for number, (attributes, pixels, mask) in enumerate(patches):
            name = f"simulated_{number:06d}"
            valid = profile.valid(pixels)
            writer.append(Patch(name, name, name, {IMAGES: pixels}, valid, mask, attributes=attributes))


def _simulated(order: SimulationOrder, number: int) -> tuple[dict[str, str], npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Attributes, digital numbers (C, H, W) as the instrument would deliver them, and mask (H, W) of one patch."""
    profile = INSTRUMENTS[order.instrument]
    bands = [profile.find(band).common_name for band in order.bands]
    patch = simulate_patch(patch_generator(order.seed, number), order.size, bands, order.recipe)
    # Nodata where there are no data or no such band.
    reflectance = np.where(patch.valid & patch.present[:, None, None], patch.reflectance, np.float32(np.nan))
    return {"biome": patch.biome, "sky": patch.sky}, profile.to_dn(reflectance), patch.mask
