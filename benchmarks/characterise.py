"""Fingerprints of all five tasks on tiny data: what a change of the code must leave as it is.

Each task runs from simulated raw scenes over patches, splits, training, evaluation and prediction to scene products, in
plain library calls with fixed seeds, one thread and a few optimisation steps. Per result one line ``task/what value``:
a metric rounded to six digits, or the start of the SHA-256 of an array, a table or a model card. Equal lines before and
after a change mean that the change left the numbers alone; hashes are comparable on one machine and one set of
libraries only::

    python benchmarks/characterise.py --out before.json          # also writes before.npz, the arrays themselves
    python benchmarks/characterise.py --out after.json --against before.json

About two minutes on one core. The exit status is 1 if anything differs.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "MPLBACKEND": "Agg"}

import argparse
import hashlib
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.samples.sample_writer import write_sample
from cloud_assets.families import family_of, load_predictor
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.search_space import with_parameters
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle.drift import with_training_reference
from cloud_assets.networks.shipped import SIMULATION_MODEL
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.statistics import band_positions
from cloud_assets.patches.store import PatchStore
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_array, predict_scene
from cloud_assets.simulation.patch import simulate_patch
from cloud_assets.tasks import ALL_TASKS


def train(recipe: Any, run: TrainingRun) -> ModelBundle:
    """Trains a variant and describes its training data in its card."""
    return with_training_reference(family_of(recipe).train(recipe, run), run)


def evaluate(
    evaluator: Any, bundle: ModelBundle, store: PatchStore, splits: Splits, references: Mapping[str, Any]
) -> Any:
    """Evaluates a model."""
    return family_of(evaluator).evaluate(evaluator, bundle, store, splits, references=references, progress=False)


SCALE = 0.03
"""Size of the simulated data sets relative to the embedded sample."""
_FIT = {
    "optimisation.steps": None,
    "optimisation.max_epochs": 2,
    "optimisation.steps_per_epoch": 2,
    "optimisation.batch_size": 2,
    "optimisation.budget_minutes": None,
    "optimisation.precision": "32",
    "optimisation.threads": 1,
    "optimisation.workers": 0,
    "optimisation.device": "cpu",
}
_SEGMENTATION = {**_FIT, "crop": 64, "simulated_patches": 4, "simulated_validation": 2}
_CLASSIFICATION = {
    **_FIT, "simulated_patches": 4, "simulated_size": 64, "training_windows": 8, "validation_windows": 6,
}  # fmt: skip
_GAN = {**_FIT, "network.width": 4, "discriminator.width": 4, "crop": 64, "statistics_patches": 4, "pictures": 0}
_AUTOENCODER = {**_FIT, "optimisation.steps_per_epoch": 1}
_UNET = {"architecture": "unet", "width": 4, "depth": 2}
_BACKBONE = {"network.backbone": "test_resnet", "network.input_size": 64}

VARIANTS: Mapping[str, Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "cloudsen12_segmentation": {
        "shipped_start": ("unet_efficientnet_b2", {**_SEGMENTATION, "start_share": 0.25}),
        "any_sensor": ("unet_any_sensor", {**_SEGMENTATION, "network.encoder": "efficientnet-b0"}),
        "four_classes": (
            "unet_efficientnet_b2",
            {
                **_SEGMENTATION, "network": _UNET, "classes": "four", "normalisation": "standardise",
                "optimisation.weight_averaging": 0.9, "test_time_augmentation": True, "mirrored_border": 16,
            },
        ),
    },
    "landsat_segmentation": {
        "unet": ("unet", {**_SEGMENTATION, "network": _UNET}),
        "attention_unet": ("attention_unet", {**_SEGMENTATION, "network.width": 4, "network.depth": 2}),
    },
    "coverage_classification": {
        "cover_map": ("resnet50", {**_CLASSIFICATION, **_BACKBONE}),
        "ordinal": (
            "mobilenet",
            {
                **_CLASSIFICATION, **_BACKBONE, "network.head": "ordinal", "loss.cover_map": 0.0,
                "normalisation": "range",
            },
        ),
    },
    "sar_to_optical": {
        "cyclegan": ("cyclegan_rgb", {**_GAN, "network.blocks": 1}),
        "pix2pix": (
            "pix2pix_rgb_nir",
            {**_GAN, "network.depth": 3, "loss.ndvi": 1.0, "loss.spectral": 1.0, "loss.frequency": 0.1},
        ),
    },
    "cloud_anomaly": {
        "conv_autoencoder": ("conv_autoencoder", {**_AUTOENCODER, "network.width": 8}),
        "vgg19_autoencoder": ("vgg19_autoencoder", {**_AUTOENCODER, "optimisation.max_epochs": 1}),
        "synthetic_clouds": (
            "synthetic_clouds",
            {**_FIT, "network.width": 4, "network.depth": 2, "picture_size": 64, "crop": 64, "simulated_normals": 4},
        ),
    },
}  # fmt: skip
"""Task -> name here -> the declared variant and what is changed in it."""
_DATASETS = {"cloudsen12_segmentation": {"max_samples": 3}}
_PATCHES = {"coverage_classification": {"size": 128}, "cloud_anomaly": {"size": 64}, "sar_to_optical": {"size": 128}}
_EVALUATORS = {"coverage_classification": {"windows": 12, "baseline_windows": 8}}


@dataclass
class Results:
    """What is compared: lines of text, and the arrays behind those that are hashes."""

    lines: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def text(self, name: str, text: str) -> None:
        """Notes a short text as it is."""
        self.lines[name] = text
        print(name, text, flush=True)

    def digest(self, name: str, content: bytes) -> None:
        """Notes the start of a hash."""
        self.text(name, hashlib.sha256(content).hexdigest()[:16])

    def array(self, name: str, values: Any) -> None:
        """Notes an array's hash and keeps the array."""
        array = np.ascontiguousarray(values)
        self.arrays[name] = array
        self.digest(name, f"{array.dtype} {array.shape}".encode() + array.tobytes())

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Notes a table's hash, numbers rounded to six digits."""
        self.digest(name, table.round(6).to_csv(index=False).encode())

    def json(self, name: str, content: Any) -> None:
        """Notes the hash of JSON, floats rounded to six digits."""
        self.digest(name, json.dumps(_rounded(content), sort_keys=True).encode())


def _rounded(content: Any) -> Any:
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, Mapping):
        return {str(key): _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    return content


def characterise_task(task: Any, data: Path, work: Path, references: dict[str, ModelBundle], results: Results) -> None:
    """Runs one task; its last but one variant becomes a reference of the tasks that follow."""
    dataset = task.dataset.model_copy(update=_DATASETS.get(task.name, {}))
    catalog = dataset.catalog(data, cache=work, progress=False)
    recipe = task.patches.model_copy(update=_PATCHES.get(task.name, {}))
    store = cut_patches(catalog, recipe, work / "store", progress=False, threads=1)
    results.text(f"{task.name}/store/data_version", store.data_version)
    results.json(f"{task.name}/store/roles", {name: role.model_dump(mode="json") for name, role in store.roles.items()})
    for name in store.array_names:
        results.digest(f"{task.name}/store/{name}", np.ascontiguousarray(store.array(name)).tobytes())
    results.table(f"{task.name}/store/index", store.index.drop(columns="source"))
    splits = task.split.split(store)
    results.text(f"{task.name}/splits/data_version", splits.data_version)
    results.table(f"{task.name}/splits/table", splits.table)
    for name, (variant, changes) in VARIANTS[task.name].items():
        place = f"{task.name}/{name}"
        run = TrainingRun(task.name, name, store, splits, work / name, progress=False, cache=work.parent / "simulated")
        bundle = train(with_parameters(task.variants[variant], changes), run)
        _model(place, bundle, results)
        evaluator = task.evaluation.model_copy(update=_EVALUATORS.get(task.name, {}))
        wanted = {key: references[key] for key in task.references}
        evaluation = evaluate(evaluator, bundle, store, splits, wanted)
        for metric, value in sorted(evaluation.metrics.items()):
            results.text(f"{place}/metric/{metric}", f"{value:.6g}")
        for title, table in evaluation.tables.items():
            results.table(f"{place}/table/{title}", table)
        results.json(f"{place}/figures", sorted(evaluation.figures))
        rows = splits.indices("test")[:3]
        card = bundle.card
        role = family_of(bundle).card_section.of(card).patches_role
        dn = store.array(role)[rows][:, band_positions(store.roles[role], card.bands)]
        for part, answer in load_predictor(bundle, "cpu").predict(dn).items():
            results.array(f"{place}/answer/{part}", answer)
        references.setdefault(task.name, bundle)
        bundle.save(work / "models" / name)
        results.text(f"{place}/reopened", str(ModelBundle.open(work / "models" / name).version == bundle.version))


def _model(place: str, bundle: ModelBundle, results: Results) -> None:
    for name, tensor in sorted(bundle.state_dict().items()):
        results.arrays[f"{place}/weights/{name}"] = tensor.numpy()
    content = b"".join(tensor.numpy().tobytes() for _, tensor in sorted(bundle.state_dict().items()))
    results.digest(f"{place}/weights", content)
    results.text(f"{place}/version", bundle.version)
    card = bundle.card.model_dump(mode="json")
    training = card["training"]
    results.text(f"{place}/fingerprint", training["fingerprint"])
    results.json(f"{place}/recipe", training["recipe"])
    results.json(
        f"{place}/history", [{k: v for k, v in row.items() if "second" not in k} for row in training["history"]]
    )
    for key in ("network", "preprocessing", "threshold", "metrics", "details", "classes", "patch_size"):
        results.json(f"{place}/card/{key}", card[key])


def _write_scene(path: Path, pixels: np.ndarray, bands: Sequence[str], metres: float, nodata: float | None) -> Path:
    place = rasterio.Affine(metres, 0, 500_000, 0, -metres, 4_600_000)
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": len(pixels), "crs": "EPSG:32633", "nodata": nodata}
    with rasterio.open(path, "w", width=pixels.shape[2], height=pixels.shape[1], transform=place, **profile) as raster:
        raster.write(pixels)
        raster.descriptions = tuple(bands)
    return path


def characterise_scenes(models: Mapping[str, ModelBundle], work: Path, results: Results) -> None:
    """Makes the products of simulated scenes, by all families together and by the model that comes with the package."""
    shipped, small = ModelBundle.open(SIMULATION_MODEL), models["landsat_segmentation"]
    together = [model for task, model in models.items() if task != "landsat_segmentation"]
    seeds = {"sentinel2_l1c": 9, "landsat8_l1": 3}
    bands = {"sentinel2_l1c": ("B02", "B03", "B04", "B08", "B10", "B11"), "landsat8_l1": ("B2", "B3", "B4", "B5")}
    scenes = {}
    for instrument, seed in seeds.items():
        profile = INSTRUMENTS[instrument]
        names = tuple(profile.find(band).common_name for band in bands[instrument])
        patch = simulate_patch(np.random.default_rng(seed), (150, 176), names)
        pixels = np.asarray(profile.to_dn(patch.reflectance)).astype(profile.dtype)
        pixels[:, :, :11] = 0
        scenes[instrument] = pixels
        results.array(f"scene/{instrument}/pixels", pixels)
    radar = np.random.default_rng(0).normal(-12, 3, (2, 150, 176)).astype(np.float32)
    beside = _write_scene(work / "radar_s1.tif", radar, ("VV", "VH"), 10, None)
    base = SceneOptions(window=96, overlap=32, back_end="torch", device="cpu")
    runs = {
        "all_families": ("sentinel2_l1c", together, base, beside),
        "shipped": ("landsat8_l1", [shipped], base, None),
        "shipped_no_overlap": ("landsat8_l1", [shipped], base.model_copy(update={"overlap": 0}), None),
        "small_flips": ("landsat8_l1", [small], base.model_copy(update={"test_time_augmentation": True}), None),
        "small_onnx": ("landsat8_l1", [small], base.model_copy(update={"back_end": "onnxruntime"}), None),
    }
    for name, (instrument, bundles, options, beside_it) in runs.items():
        metres = 10 if instrument == "sentinel2_l1c" else 30
        path = _write_scene(work / f"{name}.tif", scenes[instrument], bands[instrument], metres, 0)
        products = predict_scene(bundles, path, work / "products", options, instrument=instrument, radar=beside_it)
        for product, file in sorted(products.paths.items()):
            if file.suffix == ".tif":
                with rasterio.open(file) as raster:
                    results.array(f"scene/{name}/{product}", raster.read())
        for key, value in sorted(products.statistics.items()):
            if "second" not in key:
                results.text(f"scene/{name}/statistic/{key}", f"{value:.6g}")
        results.json(f"scene/{name}/warnings", list(products.warnings))
    answer = predict_array(shipped, scenes["landsat8_l1"], bands["landsat8_l1"], instrument="landsat8_l1", options=base)
    for part, values in answer.items():
        results.array(f"scene/array/{part}", values)


def compare(results: Results, before: Path) -> int:
    """Prints what differs from an earlier run and by how much; returns how many lines do."""
    lines: dict[str, str] = json.loads(before.read_text(encoding="utf-8"))
    known = before.with_suffix(".npz")
    arrays = np.load(known, allow_pickle=False) if known.is_file() else {}
    differing = [name for name in {**lines, **results.lines} if lines.get(name) != results.lines.get(name)]
    for name in differing:
        old, new = lines.get(name, "absent"), results.lines.get(name, "absent")
        print(f"DIFFERS {name}: {old} -> {new}{_by(name, arrays, results)}")
    print(f"{len(differing)} of {len(lines)} lines differ from {before}")
    return len(differing)


def _by(name: str, arrays: Any, results: Results) -> str:
    names = [key for key in results.arrays if key == name or (name.endswith("/weights") and key.startswith(name + "/"))]
    worst = 0.0
    for key in names:
        if key not in arrays:
            return " (no such array before)"
        old, new = arrays[key], results.arrays[key]
        if old.shape != new.shape:
            return f" (shape {old.shape} -> {new.shape})"
        difference = np.abs(old.astype(np.float64) - new.astype(np.float64))
        if (np.isnan(old.astype(np.float64)) != np.isnan(new.astype(np.float64))).any():
            return " (elsewhere not a number)"
        worst = max(worst, float(np.nan_to_num(difference).max(initial=0)))
    return f" (largest difference {worst:.3g})" if names else ""


def main() -> int:
    """Runs everything, writes and compares."""
    parser = argparse.ArgumentParser(description="Fingerprints of all five tasks on tiny data.")
    parser.add_argument("--out", type=Path, help="JSON file to write; arrays go to the .npz file beside it.")
    parser.add_argument("--against", type=Path, help="JSON file of an earlier run to compare with.")
    parser.add_argument(
        "--data", type=Path, help="Folder of samples that an earlier run left; written if it is absent."
    )
    parser.add_argument("--only", nargs="*", help="Names of tasks, or 'scenes'; default: all.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    results, started = Results(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "data"
        if not data.is_dir():
            write_sample(data, scale=SCALE, workers=1, progress=False)
        references: dict[str, ModelBundle] = {}
        for task in ALL_TASKS:
            if not arguments.only or task.name in arguments.only or "scenes" in arguments.only:
                work = Path(folder) / task.name
                work.mkdir()
                characterise_task(task, data, work, references, results)
                print(f"# {task.name}: {time.monotonic() - started:.0f} s", flush=True)
        if not arguments.only or "scenes" in arguments.only:
            characterise_scenes(references, Path(folder), results)
    print(f"# {time.monotonic() - started:.0f} s in all")
    if arguments.out:
        arguments.out.write_text(json.dumps(results.lines, indent=1) + "\n", encoding="utf-8")
        np.savez_compressed(arguments.out.with_suffix(".npz"), **results.arrays)
    return int(bool(arguments.against and compare(results, arguments.against)))


if __name__ == "__main__":
    sys.exit(main())
