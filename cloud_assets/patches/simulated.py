"""Patch stores of simulated patches, cached by everything that decides about their pixels."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidData, InvalidRecipe, TrainingFailed
from cloud_assets.patches.from_arrays import role_of
from cloud_assets.patches.patch import Patch
from cloud_assets.patches.recipe import IMAGES, PatchRecipe
from cloud_assets.patches.simulation_worker import SimulationOrder
from cloud_assets.patches.store import PatchStore
from cloud_assets.patches.store_writer import PatchStoreWriter, StoreOrigin
from cloud_assets.simulation import PHYSICS_VERSION
from cloud_assets.simulation.patch import SimulationRecipe

NOTE = "Simulated pixels: land, clouds, shadows and sensor are made up, no satellite saw them."


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
    """Opens a store of simulated patches, simulating them first if the cache does not hold them.

    Args:
        cache: Folder of such stores; each has a folder of its own, named by a hash of the recipe, the arguments and the
            version of the physics. Only complete stores are ever seen there.
        instrument: Instrument whose digital numbers are simulated.
        bands: Band names, native or common, in channel order.
        size: Edge of the patches in pixels.
        count: How many.
        seed: Seed of the series.
        recipe: Ranges to draw from.
        workers: Processes that simulate, each with one thread.
        progress: Whether to show a progress bar.

    Returns:
        The store; masks hold cloud codes, the column ``attributes`` of the index tells biome and sky.

    Raises:
        InvalidRecipe: If the instrument measures no reflectance, or the recipe contradicts itself.
        UnknownBand: If the instrument lacks a band.
        TrainingFailed: If a simulating process ended early.
    """
    if INSTRUMENTS[instrument].unit != "reflectance":
        raise InvalidRecipe(
            f"clouds are simulated in reflectance; {instrument} measures {INSTRUMENTS[instrument].unit}."
        )
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
    from tqdm import tqdm

    recipe = PatchRecipe(bands=order.bands, size=order.size, minimum_valid=0)
    profile = INSTRUMENTS[order.instrument]
    role = role_of(order.instrument, order.bands, profile.dtype, (len(order.bands), order.size, order.size))
    origin = StoreOrigin("simulation", version, True, (NOTE,))
    with (
        PatchStoreWriter(directory, recipe, {IMAGES: role}, True, origin) as writer,
        closing(_simulated(order, count, max(1, min(workers, count)))) as patches,
        tqdm(total=count, desc="Simulating patches", unit="patch", disable=not progress) as bar,
    ):
        for number, (attributes, pixels, mask) in enumerate(patches):
            name = f"simulated_{number:06d}"
            valid = profile.valid(pixels)
            writer.append(Patch(name, name, name, {IMAGES: pixels}, valid, mask, attributes=attributes))
            bar.update()


def _simulated(
    order: SimulationOrder, count: int, workers: int
) -> Generator[tuple[dict[str, str], npt.NDArray[Any], npt.NDArray[np.uint8]], None, None]:
    """Yields the patches in order; process k of n makes the numbers k, k + n, … and waits when its pipe is full."""
    dtype = np.dtype(INSTRUMENTS[order.instrument].dtype)
    shape = (len(order.bands), order.size, order.size)
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with ExitStack() as stack:
        streams = []
        for first in range(workers):
            request = json.dumps({"order": order.model_dump(mode="json"), "numbers": (first, count, workers)})
            command = [sys.executable, "-m", "cloud_assets.patches.simulation_worker", request]
            reading, writing = os.pipe()
            streams.append(stack.enter_context(os.fdopen(reading, "rb")))
            process = subprocess.Popen(command, stdout=writing, env=environment)  # noqa: S603 our own module
            os.close(writing)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for number in range(count):
            stream = streams[number % workers]
            description = stream.readline()
            pixels = stream.read(dtype.itemsize * int(np.prod(shape)))
            mask = stream.read(order.size**2)
            if len(mask) < order.size**2:
                raise TrainingFailed(
                    f"the process that simulates patches ended at patch {number} of {count}: its message is above. "
                    "If there is none, it was killed, usually for want of memory; use fewer workers."
                )
            yield (
                json.loads(description),
                np.frombuffer(pixels, dtype).reshape(shape),
                np.frombuffer(mask, np.uint8).reshape(shape[1:]),
            )
