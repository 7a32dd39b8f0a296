"""What does each switch of the radar-to-optical recipe do?

    python benchmarks/translation_switches.py [--data FOLDER] [--steps 240] [--width 16] [--crop 96] [--only ndvi,…]

Trains the paired recipe and variations of it that differ in one switch each, for the same number of steps with the same
seed, on red, green, blue and near infrared; then scores each on the test places beside the mean colour of the training
places and the linear regression. FOLDER holds sen12ms/ in its own layout; without it the synthetic sample is written to
a temporary folder. Small networks and few steps rank the switches at best roughly: repeat with --seed before believing
a difference of a few tenths of a decibel.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud_assets.datasets.samples.sample_writer import write_sample
from cloud_assets.families import family_of
from cloud_assets.families.translation.recipe import Translation
from cloud_assets.learning.search_space import with_parameters
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.specifications import ResNetGenerator
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.tasks.sar_to_optical import TASK

BANDS = ("B04", "B03", "B02", "B08")
SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "paired": {},
    "transposed": {"network.upsampling": "transposed"},
    "no_averaging": {"optimisation.weight_averaging": None},
    "no_adversary": {"loss.adversarial": 0.0, "conditional": False},
    "not_squared": {"loss.paired_l2": 0.0},
    "perceptual": {"loss.perceptual": 10.0},
    "spectral": {"loss.spectral": 10.0},
    "frequency": {"loss.frequency": 10.0},
    "ndvi": {"loss.ndvi": 10.0},
    "cyclegan_too": {"loss.cycle": 10.0},
}
"""Name of the row -> what it changes in the paired recipe. ``resnet`` and ``unpaired`` are made of other recipes."""
COLUMNS = ("psnr", "psnr_gain", "ssim", "sam", "ndvi_rmse", "ndvi_correlation")


def main() -> None:
    """Trains and scores every row."""
    parser = argparse.ArgumentParser(description="The switches of the radar-to-optical recipe, one by one.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of rows, with commas between")
    options = parser.parse_args()
    recipes = {
        name: recipe for name, recipe in rows(options).items() if not options.only or name in options.only.split(",")
    }
    with tempfile.TemporaryDirectory() as folder:
        root = options.data or Path(folder) / "sample"
        if options.data is None:
            write_sample(root, datasets=("sen12ms",))
        store = cut_patches(TASK.dataset.catalog(root), TASK.patches, Path(folder) / "patches")
        splits = TASK.split.split(store)
        print("synthetic data" if store.is_synthetic else "real data", f"{options.steps} steps", sep=", ")
        print("row", *COLUMNS, "step, s", sep=" | ")
        for name, recipe in recipes.items():
            start = time.perf_counter()
            run = TrainingRun(TASK.name, name, store, splits, Path(folder) / name, progress=False)
            bundle = family_of(recipe).train(recipe, run)
            seconds = (time.perf_counter() - start) / options.steps
            metrics = family_of(bundle).evaluate(TASK.evaluation, bundle, store, splits, progress=False).metrics
            print(name, *(f"{metrics[column]:.3f}" for column in COLUMNS), f"{seconds:.2f}", sep=" | ", flush=True)
        print(
            "linear regression",
            *(f"{metrics.get(f'linear_{column}', float('nan')):.3f}" for column in COLUMNS),
            sep=" | ",
        )


def rows(options: argparse.Namespace) -> dict[str, Translation]:
    """The recipes by the name of their row."""
    size = {
        "discriminator.width": max(8, options.width // 2),
        "crop": options.crop,
        "statistics_patches": 16,
        "optimisation.steps": None,
        "optimisation.max_epochs": 4,
        "optimisation.steps_per_epoch": -(-options.steps // 4),
        "optimisation.budget_minutes": None,
        "optimisation.learning_rate": 2e-3,
        "optimisation.seed": options.seed,
    }
    averaged = {"optimisation.weight_averaging": 0.95, "optimisation.channels_last": True}
    unet = {"network.width": options.width, "network.depth": 4}
    paired = with_parameters(TASK.variants["pix2pix_rgb_nir"], {**size, **averaged, **unet})
    found = {name: with_parameters(paired, changes) for name, changes in SWITCHES.items()}
    small_resnet = ResNetGenerator(width=options.width, blocks=3)
    found["resnet"] = paired.model_copy(update={"network": small_resnet})
    resnet = {"network.width": options.width, "network.blocks": 3, "optimisation.batch_size": 4}
    found["unpaired"] = with_parameters(TASK.variants["cyclegan_rgb_nir"], {**size, **resnet})
    return found


if __name__ == "__main__":
    main()
