"""A process that simulates every n-th patch and writes it to its standard output; see :mod:`.simulated`.

Run as ``python -m cloud_assets.patches.simulation_worker`` with one JSON object as its argument. A plain child
process, not ``multiprocessing``: it works from notebooks and unguarded scripts, and forks no threads.
"""

import contextlib
import json
import sys
from typing import BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.simulation.patch import SimulatedPatch, SimulationRecipe, patch_generator, simulate_patch


class SimulationOrder(BaseModel):
    """Everything that decides about the pixels of a series of simulated patches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instrument: str = Field(description="Instrument whose digital numbers are simulated.")
    bands: tuple[str, ...] = Field(min_length=1, description="Band names, native or common, in channel order.")
    size: int = Field(ge=16, description="Edge of the patches in pixels.")
    seed: int = Field(0, ge=0, description="Seed of the series; patch number i depends on it and on i only.")
    recipe: SimulationRecipe = Field(default_factory=SimulationRecipe, description="Ranges to draw from.")


def digital_numbers(patch: SimulatedPatch, instrument: str) -> np.ndarray:
    """A simulated patch as an instrument would deliver it.

    Args:
        patch: The patch.
        instrument: Name of the instrument.

    Returns:
        (C, H, W) digital numbers in the instrument's data type, nodata where there are no data or no such band.
    """
    reflectance = np.where(patch.valid & patch.present[:, None, None], patch.reflectance, np.float32(np.nan))
    return INSTRUMENTS[instrument].to_dn(reflectance)


def write_patches(order: SimulationOrder, numbers: range, stream: BinaryIO) -> None:
    """Simulates patches one by one and writes each as a line of JSON (its description), its pixels and its mask.

    Args:
        order: What to simulate.
        numbers: Which patches of the series.
        stream: Where to write.
    """
    profile = INSTRUMENTS[order.instrument]
    bands = [profile.find(band).common_name for band in order.bands]
    for number in numbers:
        patch = simulate_patch(patch_generator(order.seed, number), order.size, bands, order.recipe)
        stream.write(json.dumps({"biome": patch.biome, "sky": patch.sky}).encode() + b"\n")
        stream.write(np.ascontiguousarray(digital_numbers(patch, order.instrument)).data)
        stream.write(np.ascontiguousarray(patch.mask).data)
        stream.flush()


def main() -> None:
    """Reads an order from the command line and writes its patches to the standard output."""
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    request = json.loads(sys.argv[1])
    with contextlib.suppress(BrokenPipeError):  # whoever wanted the patches is gone
        write_patches(SimulationOrder.model_validate(request["order"]), range(*request["numbers"]), output)


if __name__ == "__main__":
    main()
