"""Can the paired recipe learn one real pair by heart, and what is that worth elsewhere?

    python benchmarks/one_pair.py FOLDER [--steps 1500] [--workspace FOLDER]

FOLDER holds sen12ms/ with pairs of at least two places. Trains pix2pix on the first place's first pair alone, without
augmentation, and scores it on that pair and on the first pair of every other place: gain over the mean colour of the
training pair, SSIM, R². The first line proves the plumbing, the others that one pair teaches nothing about the world.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.families import family_of, load_predictor
from cloud_assets.families.translation.metrics import TranslationScores, with_gain
from cloud_assets.learning.search_space import with_parameters
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.sar_to_optical import TASK

BANDS = ("B04", "B03", "B02", "B08")
STRETCH = (0.0, 0.3)
EPOCH = 50


def main() -> None:
    """Trains, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--workspace", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        workspace = options.workspace or Path(temporary)
        store = cut_patches(TASK.dataset.catalog(options.folder), TASK.patches, workspace / "patches")
        first = store.index.reset_index().groupby("group")["index"].first().to_numpy()
        changes = {
            "optimisation.steps_per_epoch": EPOCH,
            "optimisation.steps": None,
            "optimisation.max_epochs": -(-options.steps // EPOCH),
            "optimisation.budget_minutes": None,
            "optimisation.batch_size": 2,
            "optimisation.learning_rate": 1.5e-3,
            "augmentation": Augmentation.none().model_dump(),
        }
        recipe = with_parameters(TASK.variants["pix2pix_rgb_nir"], changes)
        one = store.index.iloc[[first[0]]]
        alone = one[["patch_id", "group"]].assign(position=int(first[0]), classes="", split="train")
        splits = Splits(alone, {"patches_version": store.data_version})
        bundle = family_of(recipe).train(
            recipe, TrainingRun(TASK.name, "one_pair", store, splits, workspace / "training")
        )
        bundle.save(workspace / "model")
        predictor = load_predictor(bundle)
        constant = reflectance(store, first[0]).mean(axis=(1, 2), keepdims=True)
        print("pair", "psnr_gain", "psnr", "ssim", "r2", sep=" | ")
        for number, row in enumerate(first):
            made = predictor.predict(store.array("sar")[[row]])["reflectance"]
            plain = scored(store, row, np.broadcast_to(constant, made.shape).astype(np.float32))
            metrics = with_gain(scored(store, row, made), plain)
            where = "learnt by heart" if number == 0 else "another place"
            shown = (f"{metrics[name]:.3f}" for name in ("psnr_gain", "psnr", "ssim", "r2"))
            print(f"{store.index['patch_id'].iloc[row]} ({where})", *shown, sep=" | ")


def reflectance(store: PatchStore, row: int) -> npt.NDArray[np.float32]:
    """The true picture (K, H, W) of a pair."""
    role = store.roles["optical"]
    channels = [role.bands.index(band) for band in BANDS]
    return INSTRUMENTS[role.instrument].to_physical(store.array("optical")[row][channels])


def scored(store: PatchStore, row: int, made: npt.NDArray[np.float32]) -> dict[str, float]:
    """Metrics of a made picture (1, K, H, W)."""
    scores = TranslationScores(BANDS, 1.0, STRETCH, None)
    true = reflectance(store, row)[None]
    scores.update(np.array([row]), made, true, np.asarray(np.isfinite(made).all(axis=1)))
    return scores.metrics()


if __name__ == "__main__":
    main()
