"""What each ingredient of the segmentation recipe for few labels is worth on the labelled patches of 38-Cloud.

    python benchmarks/ablation.py FOLDER [--seeds 0 1 2] [--rows 0 8] [--epochs 10] [--steps 50] [--out ablation]

Rows are cumulative: each adds one ingredient to the recipe of the row above and is trained once with each seed. Epoch
and threshold are chosen on validation; the test split decides nothing. All rows but the last have the same number of
steps. "hardened" is the validation split with 60 simulated patches beside it that no training saw. Rules that need no
training here (a brightness threshold fitted to the training split, ukis-csmask where it is installed) stand in the same
table. --out keeps finished trainings: interrupted, run it again.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from mask_scoring import MaskRule, MaskScores, ModelMask, UkisMask, score_masks

from cloud_assets.families import family_of
from cloud_assets.families.segmentation.metrics import fit_brightness_threshold
from cloud_assets.families.segmentation.recipe import RANDOM_SENSORS, VARIED_LIGHT, Segmentation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.search_space import with_parameters
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.landsat_segmentation import TASK

JUDGED_PATCHES, JUDGING_SEED = 60, 2_000_003
EFFICIENTNET: dict[str, Any] = {"architecture": "efficientnet_unet", "encoder_weights": "simulation"}
PLAIN: dict[str, Any] = {
    "network": {"architecture": "unet", "width": 16, "depth": 4},
    "clip": (0.0, 0.4),
    "augmentation": Augmentation().model_dump(),
    "crop": 128,
    "mirrored_border": 0,
    "simulated_patches": 1000,
    "simulated_fraction": 0.0,
    "simulated_validation": 0,
    "composited_fraction": 0.0,
    "optimisation.budget_minutes": None,
    "optimisation.threads": 1,
}
INGREDIENTS: Mapping[str, Mapping[str, Any]] = {
    "plain recipe": {},
    "reflectance up to 1.2": {"clip": (0.0, 1.2)},
    "simulated patches": {"simulated_fraction": 0.5},
    "composited clouds": {"composited_fraction": 0.3},
    "random sensors": {"augmentation": RANDOM_SENSORS.model_dump()},
    "hardened validation": {"simulated_validation": 24},
    "averaged weights": {"optimisation.weight_averaging": 0.99},
    "EfficientNet-B2 from simulation, its own recipe": {
        "network": EFFICIENTNET,
        "texture": True,
        "augmentation": VARIED_LIGHT.model_dump(),
        "optimisation.weight_averaging": None,
        "optimisation.learning_rate": 3e-4,
        "mirrored_border": 32,
    },
    "half of the weights kept, four orientations": {
        "augmentation": RANDOM_SENSORS.model_dump(),
        "optimisation.weight_averaging": 0.99,
        "optimisation.steps": None,
        "optimisation.max_epochs": 3,
        "optimisation.steps_per_epoch": 40,
        "test_time_augmentation": True,
        "start_share": 0.5,
    },
}
COLUMNS = {
    "hardened IoU": ("hardened", "iou"),
    "bright ground called cloud": ("hardened", "false_on_bright_ground"),
    "validation IoU": ("validation", "iou"),
    "test IoU": ("test", "iou"),
    "its bright ground called cloud": ("test", "false_on_bright_ground"),
    "all patches IoU": ("all", "iou"),
}


def main() -> None:
    """Trains, scores and prints row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of the rows, from 0; all by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help="batches an epoch")
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    options = parser.parse_args()
    store = cut_patches(TASK.dataset.catalog(options.folder), TASK.patches, options.out / "labelled_patches")
    bench = Bench(store, TASK.split.split(store), options.out)
    rows = list(recipes(options.epochs, options.steps).items())
    if options.rows is not None:
        rows = [rows[number] for number in options.rows]
    print("row", *COLUMNS, sep=" | ")
    for name, recipe in rows:
        show(name, [bench.scores(bench.trained(recipe, seed)) for seed in options.seeds])
    for name, rule in bench.peers().items():
        show(name, [bench.scores(rule)])


def recipes(epochs: int, steps: int) -> dict[str, Segmentation]:
    """The recipe of each row; each has the ingredients of the rows above."""
    recipe = _start(epochs, steps)
    rows = {}
    for name, changes in INGREDIENTS.items():
        rows[name] = recipe = with_parameters(recipe, changes)
    return rows


def _start(epochs: int, steps: int) -> Segmentation:
    base = TASK.variants["unet"]
    assert isinstance(base, Segmentation)
    length = {"optimisation.steps": None, "optimisation.max_epochs": epochs, "optimisation.steps_per_epoch": steps}
    return with_parameters(base, {**PLAIN, **length})


class Bench:
    """The patches that all rows learn from and are scored on."""

    def __init__(self, store: PatchStore, splits: Splits, out: Path) -> None:
        self._store, self._splits, self._out = store, splits, out
        role = store.roles[IMAGES]
        self._simulated = simulated_store(
            out / "simulated", instrument=role.instrument, bands=role.bands, size=min(256, role.shape[1]),
            count=JUDGED_PATCHES, seed=JUDGING_SEED, recipe=recipes(1, 1)["plain recipe"].simulation,
        )  # fmt: skip

    def trained(self, row: Segmentation, seed: int) -> MaskRule:
        """The row's model, trained unless an earlier run finished it."""
        recipe = with_parameters(row, {"optimisation.seed": seed})
        workspace = self._out / fingerprint(recipe, self._store, self._splits)
        finished = workspace / "model"
        if not finished.is_dir():
            run = TrainingRun(
                TASK.name, "ablation", self._store, self._splits, workspace, cache=self._out / "simulated"
            )
            family_of(recipe).train(recipe, run).save(finished)
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        return ModelMask.of(ModelBundle.open(finished), self._store)

    def peers(self) -> dict[str, MaskRule]:
        """Rules that need no training here and that can be had."""
        threshold = fit_brightness_threshold(self._store, self._splits.indices("train"), 1000)
        found = {"brightness threshold": threshold, "ukis-csmask": UkisMask.fitting(self._store.roles[IMAGES])}
        return {name: rule for name, rule in found.items() if rule is not None}

    def scores(self, rule: MaskRule) -> dict[str, float]:
        """The columns of the table; what is undefined is left out."""
        train, validation, test = (
            score_masks(rule, self._store, self._splits.indices(name)) for name in ("train", "validation", "test")
        )
        simulated = score_masks(rule, self._simulated, np.arange(len(self._simulated)))
        sets: dict[str, MaskScores] = {
            "hardened": validation + simulated,
            "validation": validation,
            "test": test,
            "all": train + validation + test,
        }
        metrics = {name: scores.metrics() for name, scores in sets.items()}
        return {title: metrics[name][key] for title, (name, key) in COLUMNS.items() if key in metrics[name]}


def show(row: str, trainings: Sequence[Mapping[str, float]]) -> None:
    """Prints a row: mean ± standard deviation over the seeds."""
    print(row, *(_cell([one[title] for one in trainings if title in one]) for title in COLUMNS), sep=" | ", flush=True)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
