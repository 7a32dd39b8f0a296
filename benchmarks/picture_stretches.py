"""Do clouds stand out whatever a picture's stretch and exposure are, and do false alarms stay as rare as promised?

    python benchmarks/picture_stretches.py --data FOLDER [--variants white_smoothness …] [--steps N] [--seeds 0 1 2]
        [--folds 5] [--keep FOLDER]

FOLDER holds cloud-anomaly/. Scored are the pictures as they are, with each band stretched between two percentiles of
its own (drawn from 0 to 5 and 95 to 100), and with each band times 0.5 to 2 and shifted by up to 40 of 255, cut off at
both ends; means over the seeds of these draws. Places without clouds are dealt out to folds: each is tested by a model
that never saw it and whose threshold is of two folds that it did not learn from, so each cloud-free picture is tested
once, against all cloudy ones. AUROC is of both sensors and of Sentinel-2 alone, where each place is there with
clouds and without. --steps is instead of the recipes' own. The rules are brightness and the correlation between bands
(1 where a band is all alike). Variants besides white_smoothness take long. --keep leaves models and pictures there.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from cloud_assets.families import family_of, load_predictor
from cloud_assets.families.anomaly.normal_split import ANOMALOUS
from cloud_assets.families.anomaly.recipe import ThresholdRule
from cloud_assets.families.anomaly.train import choose_threshold
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.cloud_anomaly import TASK

Scores = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]
PLACES = r"^(.*)_p\d+$"
KINDS = ("as they are", "percentiles", "gain and offset")
SENTINEL = "ROIs"  # what names of Sentinel-2 pictures begin with
RULE = ThresholdRule()


@dataclass(frozen=True)
class Detector:
    """A way to score pictures, and from which score on they are called cloudy."""

    score: Callable[[Pictures], Scores]
    threshold: float


def main() -> None:
    """Trains, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--variants", nargs="*", default=["white_smoothness"], choices=list(TASK.variants))
    parser.add_argument("--steps", type=int, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        dataset = TASK.dataset.model_copy(update={"group_pattern": PLACES})
        patches = TASK.patches.model_copy(update={"size": 256})
        catalog = dataset.catalog(options.data, folder, progress=False)
        report(cut_patches(catalog, patches, folder / "patches", progress=False), options, folder)


def report(store: PatchStore, options: argparse.Namespace, folder: Path) -> None:
    """Prints the table."""
    pictures = store.array()[:]
    sets = {KINDS[0]: [pictures]} | {
        kind: [
            np.stack([stretched(one, kind, np.random.default_rng((seed, row))) for row, one in enumerate(pictures)])
            for seed in options.seeds
        ]
        for kind in KINDS[1:]
    }
    cloudy = (store.index["label"] == ANOMALOUS).to_numpy()
    print(f"{int((~cloudy).sum())} cloud-free and {int(cloudy.sum())} cloudy pictures")
    print(f"promised: {RULE.false_alarm_rate:.0%} false alarms at most")
    auroc = [f"AUROC, {kind}" for kind in KINDS] + [f"Sentinel-2 alone, {kind}" for kind in KINDS]
    print("way", *auroc, *(f"false alarms, {kind}" for kind in KINDS), "found, as they are", sep=" | ")
    folds = dealt(store, options.folds)
    for name, rule in {"95th percentile of brightness": brightness, "correlation between bands": correlation}.items():
        detectors = [ruled(rule, pictures[splits.indices("validation")]) for splits in folds]
        line(name, store, sets, folds, detectors)
    for variant in options.variants:
        line(variant, store, sets, folds, [trained(variant, store, splits, options, folder) for splits in folds])


def dealt(store: PatchStore, count: int) -> list[Splits]:
    """The task's split, but with the places of one fold as test and of the next two as validation, Landsat apart."""
    splits = TASK.split.split(store)
    table = splits.table
    normal = table["classes"] != ANOMALOUS
    places = sorted(table["group"][normal].unique(), key=lambda place: not place.startswith(SENTINEL))
    order = np.random.default_rng(0)
    shuffled = [
        place
        for is_sentinel in (True, False)
        for place in order.permutation([one for one in places if one.startswith(SENTINEL) == is_sentinel])
    ]
    fold = table["group"].map({place: number % count for number, place in enumerate(shuffled)})
    made = []
    for number in range(count):
        part = np.where(fold == number, "test", np.where((fold - number) % count <= 2, "validation", "train"))
        made.append(Splits(table.assign(split=np.where(normal, part, "test")), splits.details))
    return made


def ruled(rule: Callable[[Any], float], normal: Pictures) -> Detector:
    """A rule with a threshold by pictures without clouds."""

    def score(pictures: Pictures) -> Scores:
        return np.array([rule(one) for one in pictures])

    return Detector(score, choose_threshold(RULE, score(normal), np.array([]), "").value)


def trained(variant: str, store: PatchStore, splits: Splits, options: argparse.Namespace, folder: Path) -> Detector:
    """A variant, trained or, if it lies in the folder, opened."""
    recipe: Any = TASK.variants[variant]
    if options.steps:
        optimisation = recipe.optimisation.model_copy(update={"steps": options.steps})
        recipe = recipe.model_copy(update={"optimisation": optimisation})
    workspace = folder / fingerprint(recipe, store, splits)
    if not (workspace / "model").is_dir():
        run = TrainingRun(TASK.name, variant, store, splits, workspace, cache=folder / "simulated", progress=False)
        family_of(recipe).train(recipe, run).save(workspace / "model")
    bundle = ModelBundle.open(workspace / "model")
    predictor = load_predictor(bundle, "cpu")

    def score(pictures: Pictures) -> Scores:
        # Pictures that are all black hold no data; they count as the most usual.
        return np.nan_to_num(np.asarray(predictor.predict(pictures)["score"], np.float64), nan=-np.inf)

    assert bundle.card.threshold is not None
    return Detector(score, bundle.card.threshold.value)


def line(
    name: str, store: PatchStore, sets: dict[str, list[Pictures]], folds: list[Splits], detectors: list[Detector]
) -> None:
    """Prints one line."""
    cloudy = (store.index["label"] == ANOMALOUS).to_numpy()
    sentinel = store.index["patch_id"].str.contains(f"/{SENTINEL}").to_numpy()
    cells: dict[str, list[str]] = {"all": [], "sentinel": [], "alarms": [], "found": []}
    for kind in KINDS:
        areas, sentinel_areas, alarms, found, weights, sentinel_weights = [], [], [], [], [], []
        for splits, detector in zip(folds, detectors, strict=True):
            rows = splits.indices("test")
            truth, is_sentinel = cloudy[rows], sentinel[rows]
            for pictures in sets[kind]:
                score = detector.score(pictures[rows])
                areas.append(roc_auc_score(truth, np.maximum(score, -1e9)))
                weights.append(int((~truth).sum()))
                if not truth[is_sentinel].all():
                    sentinel_areas.append(roc_auc_score(truth[is_sentinel], np.maximum(score[is_sentinel], -1e9)))
                    sentinel_weights.append(int((~truth[is_sentinel]).sum()))
                alarms += (score[~truth] >= detector.threshold).tolist()
                found += (score[truth] >= detector.threshold).tolist()
        cells["all"].append(f"{np.average(areas, weights=weights):.3f}")
        cells["sentinel"].append(f"{np.average(sentinel_areas, weights=sentinel_weights):.3f}")
        cells["alarms"].append(f"{np.mean(alarms):.1%}")
        cells["found"].append(f"{np.mean(found):.1%}")
    print(name, *cells["all"], *cells["sentinel"], *cells["alarms"], cells["found"][0], sep=" | ", flush=True)


def stretched(picture: Pictures, kind: str, rng: np.random.Generator) -> Pictures:
    """A picture (3, H, W) as another display or exposure shows it, band by band."""
    bands = []
    for band in picture.astype(np.float64):
        if kind == "percentiles":
            low, high = np.percentile(band, [rng.uniform(0, 5), rng.uniform(95, 100)])
            bands.append((band - low) / max(high - low, 1) * 255 if high > low else band)
        else:
            bands.append(band * np.exp(rng.uniform(np.log(0.5), np.log(2))) + rng.uniform(-40, 40))
    return np.clip(np.rint(bands), 0, 255).astype(np.uint8)


def brightness(picture: Pictures) -> float:
    """95th percentile of the mean of the bands."""
    return float(np.percentile(picture.mean(axis=0), 95))


def correlation(picture: Pictures) -> float:
    """Mean correlation of two bands; 1 where one is all alike."""
    pixels = picture.reshape(len(picture), -1).astype(np.float64)
    if (pixels.std(axis=1) == 0).any():
        return 1.0
    return float(np.corrcoef(pixels)[np.triu_indices(len(pixels), 1)].mean())


if __name__ == "__main__":
    main()
