"""Cloud masks without one label: how good is a model that saw nothing but simulated patches?

    python benchmarks/simulation_only.py FOLDER [--patches 3000] [--epochs 14] [--workspace simulation_only]
        [--weights FILE --learning-rate 0.0003]

Trains a U-Net with EfficientNet-B2 on simulated Landsat patches (epochs of 100 batches of 8), chooses the epoch on
simulated patches, predicts in four orientations, and scores it once on all labelled patches of FOLDER/38-cloud: next to
a brightness threshold, which is fitted to the labels of the training split, and ukis-csmask where that is installed.
Thick and thin cloud are told apart on held-out simulated patches, for 38-Cloud's masks do not. Interrupted, run it
again with the same workspace: it goes on from its last epoch. On one core an epoch takes about three minutes.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cloud_assets.evaluation.mask_rules import MaskRule, ModelMask, UkisMask
from cloud_assets.evaluation.mask_scores import MaskScores, score_masks
from cloud_assets.evaluation.segmentation_baselines import fit_brightness_threshold
from cloud_assets.models.specifications import EfficientNetUNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.prediction.bundle import ModelBundle
from cloud_assets.prediction.predictor import load_predictor
from cloud_assets.simulation.patch import SimulationRecipe
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.tasks.landsat_segmentation import TASK
from cloud_assets.tasks.mixed_with_simulation import ANYWHERE
from cloud_assets.training.recipes import FocalDice, Optimisation, Segmentation
from cloud_assets.training.run import TrainingRun

BANDS = ("red", "green", "blue", "nir")
# Landsat's level 1 is not corrected for the height of the sun: white may be dark.
SIMULATION = SimulationRecipe(
    ground=ANYWHERE.ground, sensor=SensorRecipe(saturation_chance=0.35), illumination=(0.4, 1.1)
)
AUGMENTATION = Augmentation(
    brightness=0.3,
    contrast=0.2,
    gamma=0.15,
    band_gain=0.03,
    band_offset=0.01,
    saturation=0.25,
    saturation_range=(0.3, 1.0),
    quantisation=0.2,
    blur=0.1,
    noise=0.005,
    coarser=0.1,
    nodata_wedge=0.1,
    resolution=(0.6, 1.6),
)
BRIGHT_GROUND = 0.25
COLUMNS = ("iou", "precision", "recall", "recall_inside", "recall_edge", "recall_thick", "recall_thin",
           "false_on_bright_ground")  # fmt: skip


def main() -> None:
    """Trains, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patches", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weights", default="none", help="of an earlier model, to go on from: its weights.safetensors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workspace", type=Path, default=Path("simulation_only"))
    options = parser.parse_args()
    simulated = simulated_store(
        options.workspace / "simulated",
        instrument="landsat8_l1", bands=BANDS, size=256, count=options.patches, recipe=SIMULATION,
    )  # fmt: skip
    splits = GroupedSplit(fractions=(0.95, 0.025, 0.025)).split(simulated)
    bundle = trained(options, simulated, splits)
    record = bundle.card.training
    print(f"{record.epochs_run} epochs in {record.seconds / 60:.0f} minutes; model: {options.workspace / 'model'}")
    print("patches", "rule", *COLUMNS, sep=" | ")
    show("simulated, held out", {"model": as_rule(bundle, simulated)}, simulated, splits.indices("test"))
    real = labelled_patches(options.folder, options.workspace)
    real_splits = TASK.split.split(real)
    rules: dict[str, MaskRule] = {"model": as_rule(bundle, real)}
    brightness = fit_brightness_threshold(real, real_splits.indices("train"), 1000)
    rules |= {} if brightness is None else {"brightness threshold": brightness}
    ukis = UkisMask.fitting(real.roles[IMAGES])
    rules |= {} if ukis is None else {"ukis-csmask": ukis}
    show("all", rules, real, np.arange(len(real)))
    for name in ("train", "validation", "test"):
        show(f"{name} split", rules, real, real_splits.indices(name))


def trained(options: argparse.Namespace, store: PatchStore, splits: Splits) -> ModelBundle:
    """The model, trained or finished or opened."""
    folder = options.workspace / "model"
    if folder.is_dir():
        return ModelBundle.open(folder)
    recipe = Segmentation(
        network=EfficientNetUNet(encoder="efficientnet-b2", encoder_weights=options.weights),
        loss=FocalDice(focal=0.25),
        clip=(0.0, 1.2),
        augmentation=AUGMENTATION,
        test_time_augmentation=True,
        optimisation=Optimisation(
            learning_rate=options.learning_rate, scheduler="linear", max_epochs=options.epochs, steps_per_epoch=100,
            patience=None, weight_averaging=0.998, seed=options.seed, threads=options.threads,
        ),
    )  # fmt: skip
    bundle = recipe.train(TrainingRun(TASK.name, "simulation_only", store, splits, options.workspace / "training"))
    bundle.save(folder)
    return bundle


def labelled_patches(folder: Path, workspace: Path) -> PatchStore:
    """All labelled patches of 38-Cloud."""
    cut = workspace / "labelled_patches"
    return PatchStore.open(cut) if cut.is_dir() else cut_patches(TASK.dataset.catalog(folder), TASK.patches, cut)


def as_rule(bundle: ModelBundle, store: PatchStore) -> MaskRule:
    """The model as something that makes masks of a store's numbers."""
    return ModelMask(load_predictor(bundle), store.roles[IMAGES])


def show(patches: str, rules: Mapping[str, MaskRule], store: PatchStore, rows: np.ndarray) -> None:
    """One line of the table for each rule."""
    for name, rule in rules.items():
        scores: MaskScores = score_masks(rule, store, rows, bright_ground=BRIGHT_GROUND)
        metrics = scores.metrics()
        shown = (f"{metrics[column]:.3f}" if column in metrics else "" for column in COLUMNS)
        print(f"{patches} ({len(rows)})", name, *shown, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
