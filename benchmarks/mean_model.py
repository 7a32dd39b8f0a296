"""The mean of models that went on from the same weights, as one model.

    python benchmarks/mean_model.py FOLDER MODEL MODEL [MODEL ...]

Models that share a start differ in what chance taught each of them; the mean of their weights has less of that and
costs no more than one of them (model soups, Wortsman et al. 2022, arXiv:2203.05482). The threshold is chosen anew, on
simulated patches that none of them saw. Filters are written in half precision, as they come with the package.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from simulation_only import BANDS, SIMULATION, released

from cloud_assets.families.segmentation.batches import PatchSource
from cloud_assets.families.segmentation.train import searched_thresholds
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.patches.simulated import simulated_store

_PATCHES, _SEED = 200, 7_000_003


def main() -> None:
    """Averages, chooses, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="to write the model to")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--simulated", type=Path, default=Path("simulated_patches"), help="cache of simulated patches")
    options = parser.parse_args()
    bundle = mean_model([ModelBundle.open(folder) for folder in options.models])
    store = simulated_store(
        options.simulated,
        instrument="landsat8_l1",
        bands=BANDS,
        size=256,
        count=_PATCHES,
        seed=_SEED,
        recipe=SIMULATION,
    )
    source = PatchSource(store, np.arange(len(store)), range(len(BANDS)))
    threshold, iou = searched_thresholds(bundle, [source], "auto", progress=True).best()
    released(bundle.with_card(threshold=threshold, metrics={"val_iou_at_threshold": iou})).save(options.folder)
    print(f"{options.folder}: mean of {len(options.models)} models, threshold {threshold.value} ({threshold.method})")


def mean_model(bundles: Sequence[ModelBundle]) -> ModelBundle:
    """The mean of all weights under the first one's card, which tells how many there were."""
    states = [bundle.state_dict() for bundle in bundles]
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    training = bundles[0].card.training
    recipe = {**training.recipe, "mean_of_models": len(bundles)}
    card = bundles[0].card.model_copy(update={"training": training.model_copy(update={"recipe": recipe})})
    return ModelBundle(card, mean)


if __name__ == "__main__":
    main()
