"""How fast raw files become a patch store, next to reading the same files on all cores.

    python benchmarks/patch_cutting.py [--patches 300] [--rounds 3]

Writes patches of 384 x 384 pixels in the layout of 38-Cloud, five uncompressed files a patch, and lets two ways take
turns: reading every file with the raster library, one thread a core, and cutting them into a store with its masks,
index, shares and hashes. Both read through the page cache. Prints megabytes a second of pixels and the ratio, which is
to be 0.7 at least.
"""

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from data_scaling import write_patches
from measuring import measured
from rasterio.errors import NotGeoreferencedWarning

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.recipe import PatchRecipe

SIDE = 384


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_patches(folder, options.patches, SIDE)
        files = sorted(folder.rglob("*.TIF"))
        catalog = Cloud38().catalog(folder, progress=False)
        recipe = PatchRecipe(bands=("red", "green", "blue", "nir"), minimum_valid=0)
        ways: dict[str, Callable[[], object]] = {
            "reading on all cores": lambda: read_all(files),
            "raw files to store": lambda: cut_patches(catalog, recipe, folder / "store", progress=False),
        }
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, work in ways.items():
                found[way].append(measured(work))
    megabytes = options.patches * SIDE**2 * (4 * 2 + 1) / 1e6
    rates = {
        way: [megabytes / float(np.median([one[key] for one in taken])) for key in ("seconds", "cpu")]
        for way, taken in found.items()
    }
    print("what", "MB/s by the clock", "MB/s of processor time", sep=" | ")
    for way, pair in rates.items():
        print(way, *(f"{rate:.0f}" for rate in pair), sep=" | ")
    read, cut = rates.values()
    print("store / reading", *(f"{own / other:.2f}" for own, other in zip(cut, read, strict=True)), sep=" | ")
    print(f"\n{options.patches} patches, {len(files)} files, {megabytes:.0f} MB, warm page cache")


def read_all(files: list[Path]) -> None:
    """Reads every file, one thread a core."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(read, files))


def read(path: Path) -> int:
    """Pixels of one file."""
    with rasterio.open(path) as raster:
        return int(raster.read(1).size)


if __name__ == "__main__":
    main()
