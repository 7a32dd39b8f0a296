"""How fast a whole scene goes through a model, next to the bare model and to the loop that everybody writes first.

Makes a synthetic four-band Cloud-Optimised GeoTIFF and an untrained U-Net with an EfficientNet-B2 encoder, then
measures, each in a process of its own:

* ``end to end``: reading, predicting, blending and writing with ``scene_products``;
* ``bare model``: the same back end on random windows of the same size, nothing else; as many calls at once as the
  pipeline makes, and for comparison one call at a time on all cores, as a loop over batches would;
* ``plain loop``: single precision PyTorch, one window after the other, the whole scene and its mask in memory.

    python benchmarks/scene_throughput.py --side 10980 --back-end auto

Prints megapixels of the scene per second, ratios and peak memory over that of the loaded model.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BANDS = ("red", "green", "blue", "nir")
PLAIN_LOOP_MEGAPIXELS = 8.0


def main() -> None:
    """Runs all measurements and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--side", type=int, default=4096, help="Pixels of the scene's side; a Sentinel-2 tile has 10980."
    )
    parser.add_argument(
        "--small-side", type=int, default=2048, help="A second scene, for the growth of time and memory."
    )
    parser.add_argument("--back-end", default="auto", choices=("auto", "torch", "onnxruntime", "openvino"))
    parser.add_argument(
        "--window", type=int, default=None, help="Largest side of a window; default: the product's own."
    )
    parser.add_argument("--overlap", type=int, default=None, help="Overlap of windows; default: the product's own.")
    parser.add_argument("--products", default="mask,probability", help="Products that are written.")
    parser.add_argument("--seconds", type=float, default=20.0, help="How long the bare model is measured.")
    parser.add_argument("--rounds", type=int, default=2, help="Turns of bare model and end to end.")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASUREMENTS[arguments.measure](arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = _all(arguments, Path(folder))
    _report(rows, arguments)


def _all(arguments: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Measurements by name; bare model and end to end take turns, so that other work on the machine meets both."""
    _apart("make", arguments, folder)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("bare", "single", "large", "small", "plain")}
    for turn in range(arguments.rounds):
        for name in ("bare", "large"):
            rows[name].append(_apart(name, arguments, folder))
        if turn == 0:
            for name in ("single", "small", "plain"):
                rows[name].append(_apart(name, arguments, folder))
    rows["bare"].append(_apart("bare", arguments, folder))
    return rows


def _apart(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    for key in ("side", "small_side", "back_end", "window", "overlap", "products", "seconds"):
        if getattr(arguments, key) is not None:
            command += [f"--{key.replace('_', '-')}", str(getattr(arguments, key))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    print(f"{name}: {found}", file=sys.stderr)
    return found


def _report(rows: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    large = rows["large"][0]
    cores = len(os.sched_getaffinity(0))
    print(f"\n{arguments.side} x {arguments.side} pixels, 4 bands, {large['back_end']}, {cores} cores")
    print(f"{'megapixels of the scene a second':40}{'by the clock':>14}{'by CPU time':>14}")
    by_clock, by_cpu = (
        {name: float(np.mean([row["megapixels"] / row[key] for row in rows[name]])) for name in rows}
        for key in ("seconds", "cpu")
    )
    # CPU time is what other work on the machine cannot falsify: an idle machine would give this much on all its cores.
    by_cpu = {name: value * cores for name, value in by_cpu.items()}
    titles = {
        "large": "end to end",
        "bare": "bare model",
        "single": "bare model, one call on all cores",
        "plain": "plain loop",
    }
    for name, title in titles.items():
        print(f"{title:40}{by_clock[name]:14.2f}{by_cpu[name]:14.2f}")
    overlap = large["redundancy"]
    ratios = {
        "windows end to end / bare model": [overlap * speed["large"] / speed["bare"] for speed in (by_clock, by_cpu)],
        "windows end to end / bare, one call": [
            overlap * speed["large"] / speed["single"] for speed in (by_clock, by_cpu)
        ],
        "scene end to end / bare model": [speed["large"] / speed["bare"] for speed in (by_clock, by_cpu)],
        "scene end to end / plain loop": [speed["large"] / speed["plain"] for speed in (by_clock, by_cpu)],
        "time a pixel, large / small": [speed["small"] / speed["large"] for speed in (by_clock, by_cpu)],
    }
    for title, (clock, cpu) in ratios.items():
        print(f"{title:40}{clock:14.2f}{cpu:14.2f}")
    print(f"each pixel goes through the network {overlap:.2f} times, since windows overlap")
    for name, title in (("large", "large scene"), ("small", "small scene"), ("plain", "plain loop")):
        print(f"peak memory over the loaded model, {title:15}{rows[name][0]['peak']:6.0f} MB")


def _make(arguments: argparse.Namespace) -> dict[str, float]:
    """Writes the two scenes and the model."""
    import torch

    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.networks.specifications import EfficientNetUNet

    for side in (arguments.side, arguments.small_side):
        write_scene(arguments.folder / f"{side}.tif", side)
    torch.manual_seed(0)
    card = _card()
    network = EfficientNetUNet().build(card.in_channels, card.out_channels, pretrained=False)
    ModelBundle(card, network.state_dict()).save(arguments.folder / "model")
    return {}


def write_scene(path: Path, side: int) -> None:
    """A scene of soft clouds over noisy ground, deflated in blocks as the archives deliver them."""
    import rasterio
    import rasterio.shutil

    generator = np.random.default_rng(0)
    tile = 1024
    draft = path.with_suffix(".draft.tif")
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 600_000, 0, -10, 5_100_000), "nodata": 0}
    form = {"driver": "GTiff", "dtype": "uint16", "count": 4, "height": side, "width": side}
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    coarse = generator.normal(0.3, 0.15, (side // 64 + 18, side // 64 + 18))
    with rasterio.open(draft, "w", **form, **place, **blocks) as raster:
        raster.descriptions = BANDS
        for row in range(0, side, tile):
            for column in range(0, side, tile):
                height, width = min(tile, side - row), min(tile, side - column)
                cloud = np.kron(coarse[row // 64 :, column // 64 :][:16, :16], np.ones((64, 64)))[:height, :width]
                ground = generator.normal(0.1, 0.01, (4, height, width))
                dn = np.clip((ground + np.clip(cloud, 0, 1)) * 1e4, 1, 20_000).astype(np.uint16)
                raster.write(dn, window=((row, row + height), (column, column + width)))
    rasterio.shutil.copy(draft, path, driver="COG", COMPRESS="DEFLATE", PREDICTOR="STANDARD", BLOCKSIZE="512")
    draft.unlink()


def _card() -> "object":
    from cloud_assets.inference.bundle import ModelCard, Threshold, TrainingRecord
    from cloud_assets.networks.specifications import EfficientNetUNet
    from cloud_assets.patches.preprocessing import Preprocessing

    record = TrainingRecord(
        recipe={}, seed=0, epochs_run=0, best_epoch=0, history=(), patches_version="", splits_version="",
        fingerprint="", seconds=0, device="cpu",
    )  # fmt: skip
    return ModelCard(
        task="cloudsen12_segmentation",
        variant="untrained",
        family="segmentation",
        network=EfficientNetUNet(),
        in_channels=4,
        out_channels=1,
        preprocessing=Preprocessing(instrument="sentinel2_l1c", bands=BANDS),
        classes=("clear", "cloud"),
        threshold=Threshold(value=0.5, method="fixed", unit="cloud probability"),
        training=record,
        details={"cloud_classes": [1]},
    )


def _options(arguments: argparse.Namespace) -> "object":
    from cloud_assets.scenes.planning import SceneOptions

    chosen = {"window": arguments.window, "overlap": arguments.overlap}
    return SceneOptions(
        back_end=arguments.back_end,
        products=tuple(arguments.products.split(",")),
        **{name: value for name, value in chosen.items() if value is not None},
    )


def _end_to_end(arguments: argparse.Namespace, side: int) -> dict[str, float]:
    from cloud_assets.imagery.formats.scene_formats import open_scene
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.scenes.planning import SceneModels
    from cloud_assets.scenes.production import scene_products

    options = _options(arguments)
    models = SceneModels([ModelBundle.open(arguments.folder / "model")], options)
    source = open_scene(arguments.folder / f"{side}.tif", instrument="sentinel2_l1c")
    before = _megabytes()
    started, cpu = time.perf_counter(), time.process_time()
    scene_products(source, models, arguments.folder / "products", options.model_copy(update={"overwrite": True}))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    tiling = _tiling(arguments, side)
    return {
        "megapixels": side**2 / 1e6,
        "seconds": seconds,
        "cpu": cpu,
        "peak": _peak_megabytes() - before,
        "redundancy": tiling.redundancy,
        "back_end": models.back_end("segmentation", source),
    }


def _tiling(arguments: argparse.Namespace, side: int) -> "object":
    from cloud_assets.imagery.tiling import Tiling

    options = _options(arguments)
    return Tiling.plan(side, side, options.window, options.overlap)


def _bare(arguments: argparse.Namespace, *, one_call: bool = False) -> dict[str, float]:
    """Windows that are in memory already: as many calls at once as the pipeline makes, or one on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from cloud_assets.inference.back_ends import choose_back_end
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.inference.device import Parallelism, torch_threads

    options, tiling = _options(arguments), _tiling(arguments, arguments.side)
    share = Parallelism(1, len(os.sched_getaffinity(0))) if one_call else Parallelism.of_machine()
    bundle = ModelBundle.open(arguments.folder / "model")
    back_end = choose_back_end(bundle, arguments.back_end, parallelism=share)
    shape = (tiling.vertical.size, tiling.horizontal.size)
    batch = torch.rand(options.batch_size(tiling), 4, *shape)
    workers = share.workers

    def until(end: float) -> int:
        pixels = 0
        while time.perf_counter() < end:
            back_end(batch)
            pixels += len(batch) * shape[0] * shape[1]
        return pixels

    with torch_threads(share.threads), ThreadPoolExecutor(workers) as pool:
        list(pool.map(back_end, [batch] * workers))
        started, cpu = time.perf_counter(), time.process_time()
        pixels = sum(pool.map(until, [started + arguments.seconds] * workers))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"megapixels": pixels / 1e6, "seconds": seconds, "cpu": cpu}


def _plain(arguments: argparse.Namespace) -> dict[str, float]:
    """The first loop that comes to mind; on large scenes only as many rows as take a while are predicted."""
    import rasterio
    import torch

    from cloud_assets.inference.bundle import ModelBundle

    network = ModelBundle.open(arguments.folder / "model").network()
    before = _megabytes()
    size = 256
    with rasterio.open(arguments.folder / f"{arguments.side}.tif") as raster:
        started, cpu = time.perf_counter(), time.process_time()
        scene = raster.read().astype(np.float32)
        reading, reading_cpu = time.perf_counter() - started, time.process_time() - cpu
    mask = np.zeros(scene.shape[1:], np.uint8)
    started, cpu, pixels = time.perf_counter(), time.process_time(), 0
    with torch.no_grad():
        for row in range(0, scene.shape[1] - size + 1, size):
            for column in range(0, scene.shape[2] - size + 1, size):
                window = np.clip(scene[:, row : row + size, column : column + size] / 1e4 / 0.4, 0, 1)
                logits = network(torch.from_numpy(window[np.newaxis]))
                mask[row : row + size, column : column + size] = logits[0, 0].sigmoid().numpy() >= 0.5
                pixels += size * size
            if pixels / 1e6 > PLAIN_LOOP_MEGAPIXELS:
                break
    share = arguments.side**2 / pixels
    return {
        "megapixels": arguments.side**2 / 1e6,
        "seconds": (time.perf_counter() - started) * share + reading,
        # Two threads that wait for each other spin: what counts for this loop is the clock of an idle machine.
        "cpu": (time.process_time() - cpu) * share + reading_cpu,
        "peak": _peak_megabytes() - before,
    }


def _megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


MEASUREMENTS = {
    "make": _make,
    "bare": _bare,
    "single": lambda arguments: _bare(arguments, one_call=True),
    "large": lambda arguments: _end_to_end(arguments, arguments.side),
    "small": lambda arguments: _end_to_end(arguments, arguments.small_side),
    "plain": _plain,
}

if __name__ == "__main__":
    main()
