"""How fast Sentinel-2 scenes are read as the archives deliver them: one JPEG 2000 file a band, in tiles of 1024 pixels.

    python benchmarks/jpeg2000_reading.py [--rows 3072] [--rounds 3]

Writes four bands of 10980 columns of a synthetic scene and lets three ways of reading the default model's windows take
turns: with 50 MB for unpacked tiles; with 250 MB, which hold the two rows of tiles that a row of windows touches; and
by the product's reader, which finds out what these take. Then masks are made of the files end to end. Prints seconds a
megapixel by the clock and of processor time.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from measuring import measured
from rasterio.errors import NotGeoreferencedWarning
from scene_throughput import BANDS, write_scene

from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Tiling
from cloud_assets.lifecycle.model_references import load_model
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_scene

COLUMNS, TILE, WINDOW = 10980, 1024, 768
NAME = "T32TPR_20200101T102031"
NATIVE = {"red": "B04", "green": "B03", "blue": "B02", "nir": "B08"}
MEMORY = 250_000_000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3072)
    parser.add_argument("--columns", type=int, default=COLUMNS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    model = load_model("simulation", device="cpu")
    chosen = SceneOptions(products=("mask",), overwrite=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_bands(folder, options.rows, options.columns)
        network = model.card.network
        sizes = {"multiple": network.window_multiple, "grid": network.cost_multiple}
        tiling = Tiling.plan(options.rows, options.columns, WINDOW, 32, **sizes)
        ready = model.for_scenes(chosen, options.rows * options.columns / 1e6)
        ways: dict[str, Callable[[], object]] = {
            "50 MB of tiles": lambda: one_by_one(files, tiling, 50_000_000),
            "250 MB of tiles": lambda: one_by_one(files, tiling, MEMORY),
            "the product's reader": lambda: as_the_product(folder / NAME, tiling),
            "end to end, the default model": lambda: predict_scene(ready, folder / NAME, folder / "products", chosen),
        }
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, work in ways.items():
                found[way].append(measured(work))
    print("what", "seconds a megapixel", "processor seconds a megapixel", sep=" | ")
    for way, taken in found.items():
        clock, cpu = (np.median([one[key] for one in taken]) for key in ("seconds", "cpu"))
        megapixels = options.rows * options.columns / 1e6
        print(way, f"{clock / megapixels:.3f}", f"{cpu / megapixels:.3f}", sep=" | ")
    shape = f"{tiling.vertical.size} x {tiling.horizontal.size}"
    print(f"\n{options.columns} x {options.rows} pixels, four files, windows of {shape}")


def write_bands(folder: Path, rows: int, columns: int) -> list[Path]:
    """Writes the bands of a synthetic scene as files of an own each."""
    side = max(rows, columns)
    write_scene(folder / "scene.tif", side)
    files = []
    with rasterio.open(folder / "scene.tif") as scene:
        dn = scene.read(window=((0, rows), (0, columns)))
        place = {"crs": scene.crs, "transform": scene.transform}
    (folder / "scene.tif").unlink()
    (folder / NAME).mkdir()
    for name, band in zip(BANDS, dn, strict=True):
        files.append(folder / NAME / f"{NAME}_{NATIVE[name]}.jp2")
        form = {"driver": "JP2OpenJPEG", "QUALITY": "25", "BLOCKXSIZE": str(TILE), "BLOCKYSIZE": str(TILE)}
        shape = {"dtype": "uint16", "count": 1, "height": rows, "width": columns}
        with rasterio.open(files[-1], "w", **form, **shape, **place) as raster:
            raster.write(band, 1)
    return files


def one_by_one(files: list[Path], tiling: Tiling, cache: int) -> None:
    """Reads every window of every file."""
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache))
        rasters = [stack.enter_context(rasterio.open(path)) for path in files]
        height, width = rasters[0].shape
        for position in tiling.positions():
            inside = tiling.window(position).inside(height, width).slices
            for raster in rasters:
                raster.read(1, window=inside)


def as_the_product(folder: Path, tiling: Tiling) -> None:
    """Reads every window as the default model's come."""
    with replace(open_scene(folder), cache_bytes=MEMORY).open(BANDS) as reader:
        for position in tiling.positions(reader.strip):
            reader.read(tiling.window(position))


if __name__ == "__main__":
    main()
