"""How much faster are random reads from the patch store than from pairs of GeoTIFFs?

    python benchmarks/patch_reading.py [--patches 300]

Simulates patches (4 bands of 256 x 256 16-bit pixels and a mask), writes them as a patch store and as pairs of
GeoTIFFs, reads each in the same random order in one thread, and prints patches a second and the ratio. Files are in the
page cache, as they are from the second epoch on of any training set smaller than memory.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.store import PatchStore

BANDS = ("red", "green", "blue", "nir")


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description="Random reads: patch store against GeoTIFF pairs.")
    parser.add_argument("--patches", type=int, default=300)
    count = parser.parse_args().patches
    os.environ["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"  # what a careful GeoTIFF reader sets
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    with tempfile.TemporaryDirectory() as folder:
        store = simulated_store(Path(folder), instrument="landsat8_l1", bands=BANDS, size=256, count=count)
        readers = {"patch store (one memory-mapped .npy a role)": lambda row: read_store(store, row)}
        for name, options in {
            "GeoTIFF pair, uncompressed": {},
            "GeoTIFF pair, deflate": {"compress": "deflate"},
        }.items():
            pairs = Path(folder) / name.replace(" ", "_")
            write_pairs(store, pairs, options)
            readers[name] = lambda row, pairs=pairs: read_pair(pairs, row)  # type: ignore[misc]
        order = np.random.default_rng(0).permutation(count)
        rates = {name: patches_a_second(read, order) for name, read in readers.items()}
    fastest = next(iter(rates.values()))
    print(f"\n{count} patches, 4 x 256 x 256 uint16 + mask, random order, warm page cache, one thread\n")
    print(f"{'read from':<46}{'patches/s':>12}{'store is faster by':>22}")
    for name, rate in rates.items():
        print(f"{name:<46}{rate:>12,.0f}{fastest / rate:>21.1f}x")


def read_store(store: PatchStore, row: int) -> int:
    """Copies one patch and its mask into memory of their own, as a training loader does."""
    return int(store.array()[row].copy()[0, 0, 0]) + int(store.masks[row].copy()[0, 0])


def read_pair(folder: Path, row: int) -> int:
    """Reads one patch and its mask from their files."""
    with rasterio.open(folder / f"{row}.tif") as raster:
        image = raster.read()
    with rasterio.open(folder / f"{row}_mask.tif") as raster:
        mask = raster.read(1)
    return int(image[0, 0, 0]) + int(mask[0, 0])


def write_pairs(store: PatchStore, folder: Path, options: dict[str, str]) -> None:
    """Writes every patch as two GeoTIFFs."""
    folder.mkdir()
    for row in range(len(store)):
        for suffix, pixels in (("", store.array()[row]), ("_mask", store.masks[row][None])):
            channels, height, width = pixels.shape
            with rasterio.open(
                folder / f"{row}{suffix}.tif",
                "w",
                driver="GTiff",
                count=channels,
                height=height,
                width=width,
                dtype=pixels.dtype.name,
                **options,
            ) as raster:
                raster.write(pixels)


def patches_a_second(read: Callable[[int], int], order: np.ndarray) -> float:
    """Best of three rounds, after one that fills the page cache."""
    rounds = []
    for _ in range(4):
        start = time.perf_counter()
        for row in order:
            read(int(row))
        rounds.append(time.perf_counter() - start)
    return len(order) / min(rounds[1:])


if __name__ == "__main__":
    main()
