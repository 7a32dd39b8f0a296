"""How cloudy is a patch? Four ways to know, on real patches: a classifier, an ensemble, a counted mask, both together.

    python benchmarks/coverage_ways.py FOLDER [--model simulation] [--backbone mobilenetv3_small_100] [--patches 400]
        [--steps 300] [--members 3] [--workspace coverage_ways]

FOLDER holds 38-cloud/. Classifiers of the four cover classes learn from simulated patches alone, those of
benchmarks/simulation_only.py, and choose their epoch on simulated patches, as the model that comes with the package
did: no real label is used, so all real patches are unseen. An ensemble is the mean of the probabilities of --members
trainings that differ in their seed. A classifier's cover is the mean of the classes' middles by their probability;
'always right' shows what classes alone cost. 'Both' is the mean of the ensemble's cover and the mask's. Whole patches
are scored, then random windows of them, classes evened out. Seconds are of one thread, one patch at a time.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from mask_scoring import ModelMask
from simulation_only import AUGMENTATION, BANDS, SIMULATION

from cloud_assets.families import family_of, load_predictor
from cloud_assets.families.classification.coverage_labels import CLASSES, Windows, cloud_percentage, label_windows
from cloud_assets.families.classification.metrics import Answers, decision_metrics
from cloud_assets.families.classification.recipe import Classification, ClassificationLoss
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.lifecycle.model_references import referenced_bundle
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.predictions import band_channels
from cloud_assets.tasks.landsat_segmentation import TASK

Covers = npt.NDArray[np.float64]
_EDGES = np.array([0.0, *CLASSES.boundaries, 100.0])
MIDDLES = (_EDGES[:-1] + _EDGES[1:]) / 2
METRICS = ("accuracy", "f1")
EPOCHS = 4


def main() -> None:
    """Trains, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="simulation", help="whose masks are counted")
    parser.add_argument("--backbone", default="mobilenetv3_small_100")
    parser.add_argument("--input", type=int, default=128, help="edge that the classifier sees a patch at, pixels")
    parser.add_argument("--patches", type=int, default=400, help="simulated patches")
    parser.add_argument("--steps", type=int, default=300, help="batches of 32 windows of each training")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--windows", type=int, default=400, help="of the second half of the table; 0: patches only")
    parser.add_argument("--workspace", type=Path, default=Path("coverage_ways"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = cut_patches(TASK.dataset.catalog(options.folder), TASK.patches, options.workspace / "patches")
    members = [classifier(options, seed) for seed in range(options.members)]
    segmenter = referenced_bundle(options.model)
    masks, counting = masked(segmenter, store)
    costs = "parameters, million", "seconds a patch"
    print("samples", "way", "accuracy", "macro-F1", "error of the cover, points", *costs, sep=" | ")
    for count in sorted({0, options.windows}):
        windows = label_windows(store, np.arange(len(store)), CLASSES, count=count, scale=(0.4, 1.0))
        shares = windows.class_counts(len(CLASSES.names))
        what = f"{len(windows)} windows" if count else f"{len(windows)} patches"
        print(f"{what}:", ", ".join(f"{n} {name}" for name, n in zip(CLASSES.names, shares, strict=True)), flush=True)
        counted = [cloud_percentage(masks[row][windows.place(position)]) for position, row in enumerate(windows.rows)]
        mask = np.nan_to_num(np.asarray(counted, np.float64)), parameters(segmenter), counting
        show(what, store, windows, members, mask)


def classifier(options: argparse.Namespace, seed: int) -> ModelBundle:
    """A classifier that learnt from simulated patches, trained or, if it lies in the workspace, opened."""
    store = simulated_store(
        options.workspace / "simulated", instrument="landsat8_l1", bands=BANDS, size=256, count=options.patches,
        recipe=SIMULATION,
    )  # fmt: skip
    splits = GroupedSplit(fractions=(0.85, 0.15, 0.0)).split(store)
    recipe = Classification(
        network=Classifier(backbone=options.backbone, input_size=options.input),
        loss=ClassificationLoss(cover_map=1.0),
        augmentation=AUGMENTATION,
        clip=(0.0, 1.2),
        training_windows=6 * options.patches,
        optimisation=Optimisation(
            max_epochs=EPOCHS, steps_per_epoch=-(-options.steps // EPOCHS), batch_size=32, learning_rate=2e-3,
            scheduler="linear", patience=None, weight_averaging=0.98, threads=1, seed=seed,
        ),
    )  # fmt: skip
    folder = options.workspace / "trainings" / fingerprint(recipe, store, splits)
    if not (folder / "model").is_dir():
        run = TrainingRun("coverage_ways", options.backbone, store, splits, folder, progress=False)
        family_of(recipe).train(recipe, run).save(folder / "model")
    bundle = ModelBundle.open(folder / "model")
    record = bundle.card.training
    print(f"seed {seed}: {record.seconds / 60:.1f} minutes, on simulated patches {bundle.card.metrics}", flush=True)
    return bundle


def show(
    what: str, store: PatchStore, windows: Windows, members: list[ModelBundle], mask: tuple[Covers, int, float]
) -> None:
    """Prints the lines of some windows."""
    probabilities, seconds = [], []
    for member in members:
        found, spent = classified(member, store, windows)
        probabilities.append(found)
        seconds.append(spent)
    each = [found @ MIDDLES for found in probabilities]
    mean = np.mean(probabilities, axis=0)
    counted, mask_size, counting = mask
    size = [parameters(member) for member in members]
    together = (mean @ MIDDLES + counted) / 2
    line(f"{what} | always right", windows, windows.labels, MIDDLES[windows.labels])
    singles = [scores(windows, found.argmax(axis=1), cover) for found, cover in zip(probabilities, each, strict=True)]
    spread = [f"{np.mean(column):.3f} ± {np.std(column):.3f}" for column in zip(*singles, strict=True)]
    print(what, "classifier, by seed", *spread, f"{size[0] / 1e6:.2f}", f"{np.mean(seconds):.4f}", sep=" | ")
    line(f"{what} | ensemble of {len(members)}", windows, mean.argmax(axis=1), mean @ MIDDLES, sum(size), sum(seconds))
    line(f"{what} | counted mask", windows, CLASSES.classify(counted), counted, mask_size, counting)
    both = sum(size) + mask_size, sum(seconds) + counting
    line(f"{what} | both", windows, CLASSES.classify(together), together, *both)


def line(
    name: str,
    windows: Windows,
    classes: npt.NDArray[np.int64],
    covers: Covers,
    size: int | None = None,
    seconds: float | None = None,
) -> None:
    """Prints one line."""
    shown = [f"{value:.3f}" for value in scores(windows, classes, covers)]
    costs = "" if size is None else f"{size / 1e6:.2f}", "" if seconds is None else f"{seconds:.4f}"
    print(name, *shown, *costs, sep=" | ", flush=True)


def scores(windows: Windows, classes: npt.NDArray[np.int64], covers: Covers) -> list[float]:
    """Accuracy, macro-F1 and mean absolute error of the cover in percentage points."""
    metrics = decision_metrics(Answers(windows.labels, classes), len(CLASSES.names))
    return [*(metrics[name] for name in METRICS), float(np.abs(covers - windows.percentages).mean())]


def classified(bundle: ModelBundle, store: PatchStore, windows: Windows) -> tuple[npt.NDArray[np.float64], float]:
    """(K, classes) probabilities of windows, and the seconds that one took."""
    card = bundle.card
    preprocessing = card.preprocessing.for_instrument(store.roles[IMAGES].instrument)
    predictor = load_predictor(bundle.with_card(preprocessing=preprocessing), "cpu")
    channels = band_channels(store.roles[IMAGES], preprocessing.bands)
    patches = [windows.read(store, position, IMAGES)[None, channels] for position in range(len(windows))]
    predictor.predict(patches[0])
    start = time.process_time()
    found = [predictor.predict(patch)["class_probability"][0] for patch in patches]
    return np.asarray(found, np.float64), (time.process_time() - start) / len(windows)


def masked(bundle: ModelBundle, store: PatchStore) -> tuple[npt.NDArray[np.uint8], float]:
    """Masks (N, H, W) of all patches, and the seconds that one took."""
    rule = ModelMask.of(bundle, store)
    rule.mask(store.array(IMAGES)[:1])
    start = time.process_time()
    masks = np.concatenate([rule.mask(store.array(IMAGES)[[row]]) for row in range(len(store))])
    return masks, (time.process_time() - start) / len(store)


def parameters(bundle: ModelBundle) -> int:
    """Number of a network's weights."""
    return sum(weight.numel() for weight in bundle.network().parameters())


if __name__ == "__main__":
    main()
