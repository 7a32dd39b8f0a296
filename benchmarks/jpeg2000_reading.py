"""How fast Sentinel-2 scenes are read as the archives deliver them: one JPEG 2000 file a band, in tiles of 1024 pixels.

    python benchmarks/jpeg2000_reading.py [--rows 3072] [--rounds 3] [--all-bands]

Writes four bands of 10980 columns of a synthetic scene and lets three ways of reading the default model's windows take
turns: with 50 MB for unpacked tiles; with 250 MB, which hold the two rows of tiles that a row of windows touches; and
by the product's reader, which finds out what these take. Then masks are made of the files end to end. With --all-bands
it is the 13 bands of 10, 20 and 60 metres, whose two rows of tiles take more than 250 MB: windows are read row by row,
and in the strips that the product's reader asks for. Prints seconds a megapixel by the clock and of processor time.
"""

import argparse
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from measuring import measured
from rasterio.errors import NotGeoreferencedWarning
from scene_throughput import BANDS, write_scene

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Tiling
from cloud_assets.lifecycle.model_references import load_model
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_scene

COLUMNS, TILE, WINDOW = 10980, 1024, 768
NAME = "T32TPR_20200101T102031"
MEMORY = 250_000_000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3072)
    parser.add_argument("--columns", type=int, default=COLUMNS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all-bands", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    model = load_model("simulation", device="cpu")
    chosen = SceneOptions(products=("mask",), overwrite=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bands = INSTRUMENTS["sentinel2_l1c"].names if options.all_bands else BANDS
        files = write_bands(folder, bands, options.rows, options.columns)
        network = model.card.network
        sizes = {"multiple": network.window_multiple, "grid": network.cost_multiple}
        tiling = Tiling.plan(options.rows, options.columns, WINDOW, 32, **sizes)
        ready = model.for_scenes(chosen, options.rows * options.columns / 1e6)
        ways: dict[str, Callable[[], object]] = {
            "50 MB of tiles": lambda: one_by_one(files, tiling, 50_000_000),
            "250 MB of tiles": lambda: one_by_one(files, tiling, MEMORY),
            "the product's reader": lambda: as_the_product(folder / NAME, bands, tiling),
            "end to end, the default model": lambda: predict_scene(ready, folder / NAME, folder / "products", chosen),
        }
        if options.all_bands:
            ways = {
                "row by row": lambda: as_the_product(folder / NAME, bands, tiling, in_strips=False),
                "in strips": lambda: as_the_product(folder / NAME, bands, tiling),
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
    print(f"\n{options.columns} x {options.rows} pixels, {len(files)} files, windows of {shape}")


def write_bands(folder: Path, bands: Sequence[str], rows: int, columns: int) -> list[Path]:
    """Writes bands of a synthetic scene as files of an own each; those beyond the four are the first, thinned out."""
    side = max(rows, columns)
    write_scene(folder / "scene.tif", side)
    files = []
    with rasterio.open(folder / "scene.tif") as scene:
        dn = scene.read(window=((0, rows), (0, columns)))
        crs, transform = scene.crs, scene.transform
    (folder / "scene.tif").unlink()
    (folder / NAME).mkdir()
    for place, name in enumerate(bands):
        band = INSTRUMENTS["sentinel2_l1c"].find(name)
        step = int((band.resolution_m or 10) // 10)
        pixels = dn[place if len(bands) == len(dn) else 0, ::step, ::step]
        files.append(folder / NAME / f"{NAME}_{band.name}.jp2")
        form = {"driver": "JP2OpenJPEG", "QUALITY": "25", "BLOCKXSIZE": str(TILE), "BLOCKYSIZE": str(TILE)}
        shape = {"dtype": "uint16", "count": 1, "height": pixels.shape[0], "width": pixels.shape[1]}
        scaled = transform * transform.scale(step)
        with rasterio.open(files[-1], "w", **form, **shape, crs=crs, transform=scaled) as raster:
            raster.write(pixels, 1)
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


def as_the_product(folder: Path, bands: Sequence[str], tiling: Tiling, *, in_strips: bool = True) -> None:
    """Reads every window as a model's come."""
    with replace(open_scene(folder, instrument="sentinel2_l1c"), cache_bytes=MEMORY).open(bands) as reader:
        for position in tiling.positions(reader.strip if in_strips else math.inf):
            reader.read(tiling.window(position))


if __name__ == "__main__":
    main()
