"""How fast a whole scene goes through a model, next to what limits it and to the loop that everybody writes first.

Makes a synthetic four-band Cloud-Optimised GeoTIFF and, unless a model is named, an untrained U-Net with an
EfficientNet-B2 encoder, then measures, each in a process of its own:

* ``end to end``: reading, predicting, blending and writing with ``scene_products``;
* ``bare model``: the same back end on random windows of the same size, nothing else; as many calls at once as the
  pipeline makes, and for comparison one call at a time on all cores, as a loop over batches would;
* ``disk``: reading the same windows and writing the same masks, without a model;
* ``plain loop``: single precision PyTorch, one window after the other, the whole scene and its mask in memory; in as
  many orientations as the model's card says.

    python benchmarks/scene_throughput.py --side 10980 --back-end auto [--models simulation FOLDER …] [--memory 1]

Prints megapixels of the scene a second, by the clock and by processor time over all cores (which other work on the
machine falsifies less), and peak memory, over that of the loaded model and in all; and how much of the slower of bare
model and disk is reached, which is 1 at most where they overlap wholly.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from measuring import apart, measured

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle

BANDS = ("red", "green", "blue", "nir")
_FLIPS: list[list[int]] = [[], [3], [2], [2, 3]]
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
    parser.add_argument(
        "--memory", type=float, default=None, help="Gigabytes over the model; default: the product's own."
    )
    parser.add_argument("--models", nargs="+", default=[""], help="Instead of the untrained one; of four bands.")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--products", default="mask,probability", help="Products that are written.")
    parser.add_argument("--seconds", type=float, default=20.0, help="How long the bare model is measured.")
    parser.add_argument("--rounds", type=int, default=2, help="Turns of bare model and end to end.")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASUREMENTS[arguments.measure](arguments)))
        return
    found: list[list[str]] = []
    remarks = []
    for model in arguments.models:
        arguments.model = model or None
        with tempfile.TemporaryDirectory() as folder:
            rows = _all(arguments, Path(folder))
        head, *lines = ([model or "untrained", *row] for row in table(rows, len(os.sched_getaffinity(0))))
        found += [*([] if found else [["model", *head[1:]]]), *lines]
        remarks.append(f"{model or 'untrained'}: {_remark(rows['large'][0])}")
    for row in found:
        print(*row, sep=" | ")
    print(f"\n{arguments.side} x {arguments.side} pixels, 4 bands; the small scene has {arguments.small_side}.")
    print(*remarks, sep="\n")


def _all(arguments: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Measurements by name; bare model and end to end take turns, so that other work on the machine meets both."""
    _apart("make", arguments, folder)
    rows: dict[str, list[dict[str, float]]] = {
        name: [] for name in ("bare", "single", "large", "small", "disk", "plain")
    }
    for turn in range(arguments.rounds):
        for name in ("bare", "large"):
            rows[name].append(_apart(name, arguments, folder))
        if turn == 0:
            for name in ("single", "small", "disk", "plain"):
                rows[name].append(_apart(name, arguments, folder))
    rows["bare"].append(_apart("bare", arguments, folder))
    return rows


def _apart(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    words = ["--measure", name, "--folder", folder]
    for key in ("side", "small_side", "back_end", "window", "overlap", "memory", "model", "products", "seconds"):
        if getattr(arguments, key) is not None:
            words += [f"--{key.replace('_', '-')}", getattr(arguments, key)]
    found: dict[str, float] = json.loads(apart(__file__, *words))
    print(f"{name}: {found}", file=sys.stderr)
    return found


def _remark(large: dict[str, float]) -> str:
    often = f"each pixel goes through the network {large['redundancy']:.2f} times, since they overlap"
    return f"{large['back_end']}; windows of {large['window']}: {often}"


def table(rows: dict[str, list[dict[str, float]]], cores: int) -> list[list[str]]:
    """Medians: rates, memory, and ratios of rates."""
    titles = {
        "large": "end to end",
        "bare": "bare model",
        "single": "bare model, one call on all cores",
        "disk": "disk",
        "small": "end to end, small scene",
        "plain": "plain loop",
    }
    # Other work on the machine falsifies processor time less: an idle one would give this much on all its cores.
    clock, cpu = (
        {name: share * float(np.median([row["megapixels"] / row[key] for row in rows[name]])) for name in titles}
        for key, share in (("seconds", 1), ("cpu", cores))
    )
    memory = {"peak": "MB over the model", "total": "MB in all"}
    found = [["measured", "megapixels/s by the clock", "megapixels/s by processor time", *memory.values()]]
    for name, title in titles.items():
        most = [f"{max(row[key] for row in rows[name]):.0f}" if key in rows[name][0] else "–" for key in memory]
        found.append([title, f"{clock[name]:.2f}", f"{cpu[name]:.2f}", *most])
    redundancy = rows["large"][0]["redundancy"]
    of_scene = [{**rates, "bare": rates["bare"] / redundancy} for rates in (clock, cpu)]
    ratios = {
        "end to end / min(bare model, disk)": [one["large"] / min(one["bare"], one["disk"]) for one in of_scene],
        "end to end / plain loop": [one["large"] / one["plain"] for one in of_scene],
        "time a pixel, large / small": [one["small"] / one["large"] for one in of_scene],
    }
    peaks = [max(row[key] for row in rows["large"]) / max(row[key] for row in rows["small"]) for key in memory]
    found += [[title, *(f"{value:.2f}" for value in both), "–", "–"] for title, both in ratios.items()]
    return [*found, ["memory, large / small", "–", "–", *(f"{peak:.2f}" for peak in peaks)]]


def _make(arguments: argparse.Namespace) -> dict[str, float]:
    """Writes the two scenes and the model."""
    import torch

    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.networks.specifications import EfficientNetUNet

    for side in (arguments.side, arguments.small_side):
        write_scene(arguments.folder / f"{side}.tif", side)
    if arguments.model:
        return {}
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

    chosen = {"window": arguments.window, "overlap": arguments.overlap, "memory_gigabytes": arguments.memory}
    return SceneOptions(
        back_end=arguments.back_end,
        products=tuple(arguments.products.split(",")),
        **{name: value for name, value in chosen.items() if value is not None},
    )


def _end_to_end(arguments: argparse.Namespace, side: int) -> dict[str, float]:
    from cloud_assets.imagery.formats.scene_formats import open_scene
    from cloud_assets.scenes.planning import SceneModels
    from cloud_assets.scenes.production import scene_products

    options = _options(arguments)
    models = SceneModels([_bundle(arguments)], options)
    source = open_scene(arguments.folder / f"{side}.tif", instrument="sentinel2_l1c")
    again = options.model_copy(update={"overwrite": True, "accept_other_level": True})
    models.predictor("segmentation", source)
    taken = measured(lambda: scene_products(source, models, arguments.folder / "products", again))
    tiling, _, _ = _plan(arguments, side)
    return {
        **taken,
        "megapixels": side**2 / 1e6,
        "redundancy": len(tiling) * tiling.vertical.size * tiling.horizontal.size / side**2,
        "window": tiling.vertical.size,
        "back_end": models.back_end("segmentation", source),
    }


def _bundle(arguments: argparse.Namespace) -> "ModelBundle":
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.lifecycle.model_references import referenced_bundle

    if arguments.model:
        return referenced_bundle(arguments.model)
    return ModelBundle.open(arguments.folder / "model")


def _plan(arguments: argparse.Namespace, side: int) -> "tuple[object, int, int]":
    """Windows, windows a call, calls at once, as the product chooses them."""
    from cloud_assets.families.segmentation.predictor import SegmentationPredictor
    from cloud_assets.imagery.tiling import Tiling
    from cloud_assets.inference.device import Parallelism

    predictor = SegmentationPredictor(_bundle(arguments), "cpu")
    options, workers = _options(arguments).within_memory(predictor.pixel_bytes, Parallelism.of_machine().workers)
    network = predictor.card.network
    sizes = {"border": predictor.border, "multiple": network.window_multiple, "grid": network.cost_multiple}
    tiling = Tiling.plan(side, side, options.window, options.overlap, **sizes)
    return tiling, options.batch_size(tiling), workers


def _disk(arguments: argparse.Namespace) -> dict[str, float]:
    """Reads the windows of the large scene and writes the products that were made of it last."""
    import rasterio

    from cloud_assets.imagery.formats.scene_formats import open_scene
    from cloud_assets.imagery.tiling import Window
    from cloud_assets.imagery.writing import RasterDraft, RasterForm, write_cog

    side = arguments.side
    source = open_scene(arguments.folder / f"{side}.tif", instrument="sentinel2_l1c")
    tiling, _, _ = _plan(arguments, side)
    finished = {}
    for name in arguments.products.split(","):
        with rasterio.open(arguments.folder / "products" / source.name / f"{name}.tif") as raster:
            finished[name] = raster.read(1)

    def work() -> None:
        with source.open(BANDS) as reader:
            for position in tiling.positions():
                reader.read(tiling.window(position))
        for name, values in finished.items():
            draft = RasterDraft(arguments.folder / f"{name}.draft.tif", source.grid, RasterForm("uint8", (name,), 255))
            with draft:
                for row in range(0, side, tiling.vertical.size):
                    part = values[row : row + tiling.vertical.size]
                    draft.write(Window(row, 0, len(part), side), part)
            write_cog(draft, arguments.folder / f"{name}.tif", {})

    return {**measured(work), "megapixels": side**2 / 1e6}


def _bare(arguments: argparse.Namespace, *, one_call: bool = False) -> dict[str, float]:
    """Windows that are in memory already: as many calls at once as the pipeline makes, or one on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from cloud_assets.inference.back_ends import choose_back_end
    from cloud_assets.inference.device import Parallelism, torch_threads

    tiling, size, calls = _plan(arguments, arguments.side)
    share = Parallelism(1, len(os.sched_getaffinity(0))) if one_call else Parallelism.of_machine()
    bundle = _bundle(arguments)
    passes = _passes(bundle)
    back_end = choose_back_end(bundle, arguments.back_end, parallelism=share)
    shape = (tiling.vertical.size, tiling.horizontal.size)
    network = bundle.card.network
    seen = (math.ceil(side / network.cost_multiple) * network.size_multiple for side in shape)
    batch = torch.rand(size, bundle.card.in_channels, *seen)
    workers = 1 if one_call else calls

    def until(end: float) -> int:
        pixels = 0
        while time.perf_counter() < end:
            for _ in range(passes):
                back_end(batch)
            pixels += len(batch) * shape[0] * shape[1]
        return pixels

    with torch_threads(share.threads), ThreadPoolExecutor(workers) as pool:
        list(pool.map(back_end, [batch] * workers))
        started, cpu = time.perf_counter(), time.process_time()
        pixels = sum(pool.map(until, [started + arguments.seconds] * workers))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"megapixels": pixels / 1e6, "seconds": seconds, "cpu": cpu}


def _passes(bundle: "ModelBundle") -> int:
    """Calls of the network for each window: one an orientation."""
    from cloud_assets.families.segmentation.recipe import SegmentationSection

    return len(_FLIPS) if SegmentationSection.of(bundle.card).test_time_augmentation else 1


def _plain(arguments: argparse.Namespace) -> dict[str, float]:
    """The first loop that comes to mind; on large scenes only as many rows as take a while are predicted."""
    import rasterio
    import torch

    from cloud_assets.inference.back_ends import class_probability
    from cloud_assets.patches.preprocessing import resized

    bundle = _bundle(arguments)
    network, preprocessing, size = bundle.network(), bundle.card.preprocessing, 256
    flips, block = _FLIPS[: _passes(bundle)], bundle.card.network.coarsening
    scene: list[np.ndarray] = []

    def read() -> None:
        with rasterio.open(arguments.folder / f"{arguments.side}.tif") as raster:
            scene.append(raster.read())

    def predict() -> None:
        mask = np.zeros(scene[0].shape[1:], np.uint8)
        with torch.no_grad():
            for row in range(0, rows, size):
                for column in range(0, arguments.side - size + 1, size):
                    window = preprocessing(scene[0][None, :, row : row + size, column : column + size], block)[0]
                    pixels = torch.from_numpy(window)
                    turned = [class_probability(network(pixels.flip(flip))).flip(flip) for flip in flips]
                    cloud = torch.stack(turned).mean(dim=0)[0, 1:].sum(dim=0)
                    mask[row : row + size, column : column + size] = resized(cloud.numpy(), block) >= 0.5

    rows = min(arguments.side, max(1, round(PLAIN_LOOP_MEGAPIXELS * 1e6 / arguments.side / size)) * size)
    reading, predicting = measured(read), measured(predict)
    share = arguments.side / rows
    # Two threads that wait for each other spin: what counts for this loop is the clock of an idle machine.
    spent = {key: reading[key] + share * predicting[key] for key in ("seconds", "cpu")}
    return {**spent, "megapixels": arguments.side**2 / 1e6, "peak": reading["peak"] + predicting["peak"]}


MEASUREMENTS = {
    "make": _make,
    "bare": _bare,
    "single": lambda arguments: _bare(arguments, one_call=True),
    "large": lambda arguments: _end_to_end(arguments, arguments.side),
    "small": lambda arguments: _end_to_end(arguments, arguments.small_side),
    "disk": _disk,
    "plain": _plain,
}

if __name__ == "__main__":
    main()
