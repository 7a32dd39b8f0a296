"""How good are models on labelled patches that they were not trained on, next to rules that need no training here?

    python benchmarks/real_patches.py FOLDER MODEL [MODEL ...] [--mirrored-border PIXELS]
        [--workspace real_patches]

Scores models (folders of trained models, or ``simulation``, the one that comes with the package) on the labelled
patches of FOLDER/38-cloud, whatever instrument they learnt from, beside a brightness threshold, which is fitted to the
labels of the training split, and ukis-csmask where that is installed. Models that were trained on some of the patches
flatter themselves in the lines for these.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mask_scoring import MaskRule, ModelMask, UkisMask, score_masks

from cloud_assets.families.segmentation.metrics import fit_brightness_threshold
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.model_references import referenced_bundle
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.landsat_segmentation import TASK

COLUMNS = ("iou", "precision", "recall", "recall_inside", "recall_edge", "recall_thick", "recall_thin",
           "false_on_bright_ground")  # fmt: skip


def main() -> None:
    """Scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--mirrored-border", type=int, help="pixels; by default each model's own")
    parser.add_argument("--workspace", type=Path, default=Path("real_patches"))
    options = parser.parse_args()
    bundles = {reference: referenced_bundle(reference) for reference in options.models}
    if options.mirrored_border is not None:
        bundles = {name: with_border(bundle, options.mirrored_border) for name, bundle in bundles.items()}
    print("patches", "rule", *COLUMNS, sep=" | ")
    show_real(bundles, options.folder, options.workspace)


def with_border(bundle: ModelBundle, pixels: int) -> ModelBundle:
    """The model, predicting patches with a mirrored border of some pixels."""
    return bundle.with_card(details={**bundle.card.details, "mirrored_border": pixels})


def show_real(bundles: Mapping[str, ModelBundle], folder: Path, workspace: Path) -> None:
    """The lines of the table for all labelled patches of 38-Cloud and for each split of them."""
    store = cut_patches(TASK.dataset.catalog(folder), TASK.patches, workspace / "labelled_patches")
    splits = TASK.split.split(store)
    rules: dict[str, MaskRule] = {name: ModelMask.of(bundle, store) for name, bundle in bundles.items()}
    brightness = fit_brightness_threshold(store, splits.indices("train"), 1000)
    rules |= {} if brightness is None else {"brightness threshold": brightness}
    ukis = UkisMask.fitting(store.roles[IMAGES])
    rules |= {} if ukis is None else {"ukis-csmask": ukis}
    show("all", rules, store, np.arange(len(store)))
    for name in ("train", "validation", "test"):
        show(f"{name} split", rules, store, splits.indices(name))


def show(patches: str, rules: Mapping[str, MaskRule], store: PatchStore, rows: np.ndarray) -> None:
    """One line of the table for each rule."""
    for name, rule in rules.items():
        metrics = score_masks(rule, store, rows).metrics()
        shown = (f"{metrics[column]:.3f}" if column in metrics else "" for column in COLUMNS)
        print(f"{patches} ({len(rows)})", name, *shown, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
