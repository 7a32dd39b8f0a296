"""Do catalogue, hashes, patch store, splits and checks stay linear in time and flat in memory as data sets grow?

    python benchmarks/data_scaling.py [--counts 1000 5000 25000] [--side 16]

Writes data sets of tiny patches in the layout of 38-Cloud, five files a patch and ten patches a scene, and runs what
the assets of a task run, each size in a process of its own: the catalogue (headers, truth and hashes of all files),
cutting, opening the store, splits and the search for duplicates. Prints seconds, milliseconds a patch, and memory over
that of the process before. Pixels are few, so that what a patch costs besides its pixels is what counts.
"""

import argparse
import io
import json
import tempfile
from pathlib import Path

import numpy as np
from measuring import apart, measured

_COLOURS = ("red", "green", "blue", "nir")
_PATCHES_A_SCENE = 10


def main() -> None:
    """Runs all sizes and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 5000, 25_000])
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    parts = ("catalogue", "store", "splits")
    print("patches", *(f"{part}, s" for part in parts), "ms a patch", *(f"{part}, MB" for part in parts), sep=" | ")
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            write_patches(Path(folder), count, options.side)
            found = json.loads(apart(__file__, "--measure", folder))
        seconds, peaks = ([found[part][key] for part in parts] for key in ("seconds", "peak"))
        pace = f"{1000 * sum(seconds) / count:.2f}"
        cells = [*(f"{value:.2f}" for value in seconds), pace, *(f"{value:.0f}" for value in peaks)]
        print(count, *cells, sep=" | ", flush=True)


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """What each part takes."""
    from cloud_assets.datasets.cloud38 import Cloud38
    from cloud_assets.patches.cutting import cut_patches
    from cloud_assets.patches.recipe import PatchRecipe
    from cloud_assets.patches.splits import GroupedSplit
    from cloud_assets.patches.store import PatchStore

    recipe, directory = PatchRecipe(bands=_COLOURS, minimum_valid=0), folder / "store"
    catalogs = []

    def split() -> None:
        splits = GroupedSplit().split(PatchStore.open(directory))
        if splits.leaking_groups():
            raise SystemExit("groups in two splits")

    return {
        "catalogue": measured(lambda: catalogs.append(Cloud38().catalog(folder, progress=False))),
        "store": measured(lambda: cut_patches(catalogs[0], recipe, directory, progress=False)),
        "splits": measured(split),
    }


def write_patches(folder: Path, count: int, side: int) -> None:
    """Uncompressed files that differ in their pixels: one is made by the raster library, the others from its bytes."""
    generator, home = np.random.default_rng(0), folder / "38-cloud" / "38-Cloud_training"
    image, label = (_template(side, dtype) for dtype in ("uint16", "uint8"))
    for colour in (*_COLOURS, "gt"):
        (home / f"train_{colour}").mkdir(parents=True)
        head, tail = label if colour == "gt" else image
        for number in range(count):
            name = f"patch_{number}_1_by_1_LC08_L1TP_{number // _PATCHES_A_SCENE:06d}"
            pixels = generator.integers(6000, 20_000, (side, side), np.uint16)
            if colour == "gt":
                pixels = np.where(pixels > 13_000, 255, 0).astype(np.uint8)
            path = home / f"train_{colour}" / f"{colour}_{name}.TIF"
            path.write_bytes(head + pixels.astype(pixels.dtype.newbyteorder("<")).tobytes() + tail)


def _template(side: int, dtype: str) -> tuple[bytes, bytes]:
    """What stands before and behind the pixels of an uncompressed file."""
    from PIL import Image

    pixels, buffer = np.random.default_rng(1).integers(1, 250, (side, side)).astype(dtype), io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="TIFF")
    head, found, tail = buffer.getvalue().partition(pixels.tobytes())
    if not found:
        raise SystemExit("the raster library does not write pixels as they are")
    return head, tail


if __name__ == "__main__":
    main()
