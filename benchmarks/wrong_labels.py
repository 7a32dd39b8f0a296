"""Ten wrong masks among a task's patches: how many are in the first twenty of the list of suspicious labels?

    python benchmarks/wrong_labels.py <model folder> <labeled_patches folder> [--repeats 5]

The model folder is that of a trained model (``data/<task>/champion/model``). In each repeat ten patches, drawn from all
splits, get a wrong mask: inverted, emptied, shifted by a third of the patch, or swapped with another patch's. A mask
counts as wrong only if at least 5 % of its pixels changed. The model was trained on the right masks of the training
split: it never learnt the mistakes.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cloud_assets.bands import CLEAR, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.families import load_predictor
from cloud_assets.families.segmentation.doubts import doubt_mask, pixel_thresholds, quantised
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.predictions import predict_patches

KINDS = ("inverted", "emptied", "shifted", "swapped")
WRONG, FIRST = 10, 20
_LEAST_CHANGED = 0.05
Masks = npt.NDArray[np.uint8]


def corrupted(masks: Masks, rng: np.random.Generator) -> tuple[Masks, dict[int, str]]:
    """Masks (N, H, W) with ten wrong ones, and which kind of mistake each of those rows has."""
    wrong, kinds = masks.copy(), dict[int, str]()
    for row in rng.permutation(len(masks)):
        kind = KINDS[len(kinds) % len(KINDS)]
        changed = _changed(masks, int(row), kind, rng)
        labelled = (masks[row] != UNLABELLED) & (changed != UNLABELLED)
        is_cloud = [np.isin(mask, (THICK_CLOUD, THIN_CLOUD)) for mask in (masks[row], changed)]
        if labelled.any() and (is_cloud[0] != is_cloud[1])[labelled].mean() >= _LEAST_CHANGED:
            wrong[row], kinds[int(row)] = changed, kind
        if len(kinds) == WRONG:
            break
    return wrong, kinds


def _changed(masks: Masks, row: int, kind: str, rng: np.random.Generator) -> Masks:
    mask = masks[row]
    if kind == "inverted":
        new = np.where(np.isin(mask, (THICK_CLOUD, THIN_CLOUD)), np.uint8(CLEAR), np.uint8(THICK_CLOUD))
    elif kind == "emptied":
        new = np.full_like(mask, CLEAR)
    elif kind == "shifted":
        new = np.roll(mask, (mask.shape[0] // 3, mask.shape[1] // 3), axis=(0, 1))
    else:
        new = masks[int(rng.integers(len(masks)))]
    return np.where(mask == UNLABELLED, mask, new).astype(np.uint8)


def main() -> None:
    """Prints, repeat by repeat, how many of the wrong masks are found, and by a naive rule for comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    store = PatchStore.open(arguments.store)
    predictor = load_predictor(ModelBundle.open(arguments.model))
    rows = np.arange(len(store))
    batches = predict_patches(predictor, store, rows, batch_size=1, title="predicting", progress=True)
    levels = [quantised(batch.answer["cloud_probability"][0]) for batch in batches]
    first = f"{WRONG} wrong of {len(store)} masks; found in the first {FIRST} of the list"
    print(first, "by confident learning", "by the share of wrong pixels", "missed", sep=" | ")
    totals = []
    for repeat in range(arguments.repeats):
        masks, kinds = corrupted(np.asarray(store.masks), np.random.default_rng(repeat))
        thresholds = pixel_thresholds(list(masks), levels)
        scores = [
            doubt_mask(mask, level, thresholds).suspicion
            for mask, level in zip(tqdm(masks, leave=False), levels, strict=True)
        ]
        naive = [
            float(((level > 127) != np.isin(mask, (THICK_CLOUD, THIN_CLOUD)))[mask != UNLABELLED].mean())
            for mask, level in zip(masks, levels, strict=True)
        ]
        found, plain = (set(np.argsort(values)[::-1][:FIRST].tolist()) & set(kinds) for values in (scores, naive))
        missed = sorted(kinds[row] for row in set(kinds) - found)
        totals.append((len(found), len(plain)))
        print(f"draw {repeat}", len(found), len(plain), ", ".join(missed) or "none", sep=" | ")
    ours, theirs = np.mean(totals, axis=0)
    print("mean", f"{ours:.1f}", f"{theirs:.1f}", "–", sep=" | ")


if __name__ == "__main__":
    main()
