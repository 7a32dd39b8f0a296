"""How much faster is the patch store written and read in random order than other formats of patches?

    python benchmarks/patch_reading.py [--patches 300]

Simulates patches (4 bands of 256 x 256 16-bit pixels and a mask), writes them as a patch store (with its index, shares
and hashes) and as pairs of files of other formats, reads each in the same random order in one thread, and prints
patches a second and the ratios. Files are in the page cache, as they are from the second epoch on of any training set
smaller than memory.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from safetensors.numpy import load_file, save_file

from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.store import PatchStore
from cloud_assets.patches.store_writer import Patch, PatchStoreWriter, StoreOrigin

BANDS = ("red", "green", "blue", "nir")
Arrays = tuple[np.ndarray, np.ndarray]
"""Image (C, H, W) and mask (H, W)."""


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description="Random reads and writing: patch store against other formats.")
    parser.add_argument("--patches", type=int, default=300)
    count = parser.parse_args().patches
    os.environ["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"  # what a careful GeoTIFF reader sets
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulated = simulated_store(folder, instrument="landsat8_l1", bands=BANDS, size=256, count=count)
        patches = [(simulated.array()[row].copy(), simulated.masks[row].copy()) for row in range(count)]
        rates = both_rates(simulated, patches, folder)
    print("format", "written, patches/s", "store is faster by", "read, patches/s", "store is faster by", sep=" | ")
    own = next(iter(rates.values()))
    for name, found in rates.items():
        cells = [f"{value:,.0f} | {fastest / value:.1f}x" for fastest, value in zip(own, found, strict=True)]
        print(name, *cells, sep=" | ")
    print(f"\n{count} patches, 4 x 256 x 256 uint16 + mask, random order, warm page cache, one thread")


def both_rates(simulated: PatchStore, patches: list[Arrays], folder: Path) -> dict[str, tuple[float, float]]:
    """Patches a second that are written and read, the store's first."""
    order = np.random.default_rng(0).permutation(len(patches))
    start = time.perf_counter()
    store = written_store(simulated, patches, folder / "store")
    found = {"patch store (one memory-mapped .npy a role)": (len(patches) / (time.perf_counter() - start), 0.0)}
    readers: dict[str, Callable[[int], int]] = {next(iter(found)): partial(read_store, store)}
    formats: dict[str, tuple[Callable[..., None], Callable[[Path, int], int]]] = {
        "safetensors": (write_safetensors, read_safetensors),
        "pair of .npy": (write_npy, read_npy),
        "compressed .npz": (write_npz, read_npz),
        "GeoTIFF pair, uncompressed": (write_pair, read_pair),
        "GeoTIFF pair, deflate": (partial(write_pair, compress="deflate"), read_pair),
    }
    for name, (write, read) in formats.items():
        place = folder / name.replace(" ", "_")
        place.mkdir()
        start = time.perf_counter()
        for row, (image, mask) in enumerate(patches):
            write(place, row, image, mask)
        found[name] = (len(patches) / (time.perf_counter() - start), 0.0)
        readers[name] = partial(read, place)
    return {name: (found[name][0], patches_a_second(read, order)) for name, read in readers.items()}


def written_store(simulated: PatchStore, patches: list[Arrays], directory: Path) -> PatchStore:
    """The same patches as a store of their own."""
    recipe, origin = simulated.manifest.recipe, StoreOrigin("benchmark", "0", is_synthetic=True)
    with PatchStoreWriter(directory, recipe, simulated.roles, True, origin) as writer:
        for row, (image, mask) in enumerate(patches):
            writer.append(Patch(str(row), str(row), str(row), {IMAGES: image}, (image != 0).all(axis=0), mask))
    return PatchStore.open(directory)


def read_store(store: PatchStore, row: int) -> int:
    """Copies one patch and its mask into memory of their own, as a training loader does."""
    return int(store.array()[row].copy()[0, 0, 0]) + int(store.masks[row].copy()[0, 0])


def write_safetensors(folder: Path, row: int, image: np.ndarray, mask: np.ndarray) -> None:
    """One file a patch."""
    save_file({"image": image, "mask": mask}, folder / f"{row}.safetensors")


def read_safetensors(folder: Path, row: int) -> int:
    """Both arrays of it."""
    found = load_file(folder / f"{row}.safetensors")
    return int(found["image"][0, 0, 0]) + int(found["mask"][0, 0])


def write_npy(folder: Path, row: int, image: np.ndarray, mask: np.ndarray) -> None:
    """Two files a patch."""
    np.save(folder / f"{row}.npy", image)
    np.save(folder / f"{row}_mask.npy", mask)


def read_npy(folder: Path, row: int) -> int:
    """Both of them."""
    return int(np.load(folder / f"{row}.npy")[0, 0, 0]) + int(np.load(folder / f"{row}_mask.npy")[0, 0])


def write_npz(folder: Path, row: int, image: np.ndarray, mask: np.ndarray) -> None:
    """One deflated file a patch."""
    np.savez_compressed(folder / f"{row}.npz", image=image, mask=mask)


def read_npz(folder: Path, row: int) -> int:
    """Both arrays of it."""
    with np.load(folder / f"{row}.npz") as found:
        return int(found["image"][0, 0, 0]) + int(found["mask"][0, 0])


def read_pair(folder: Path, row: int) -> int:
    """Reads one patch and its mask from their files."""
    with rasterio.open(folder / f"{row}.tif") as raster:
        image = raster.read()
    with rasterio.open(folder / f"{row}_mask.tif") as raster:
        mask = raster.read(1)
    return int(image[0, 0, 0]) + int(mask[0, 0])


def write_pair(folder: Path, row: int, image: np.ndarray, mask: np.ndarray, **options: Any) -> None:
    """Writes a patch as two GeoTIFFs."""
    for suffix, pixels in (("", image), ("_mask", mask[None])):
        channels, height, width = pixels.shape
        form = {"driver": "GTiff", "count": channels, "height": height, "width": width, "dtype": pixels.dtype.name}
        with rasterio.open(folder / f"{row}{suffix}.tif", "w", **form, **options) as raster:
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
