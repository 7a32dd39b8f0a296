"""What do simulated clouds, random sensors and fine texture add to a training step?

    python benchmarks/augmentation_cost.py [--patches 64] [--rounds 5]

Makes batches of 8 patches (4 bands, 256 x 256, Landsat) with and without each ingredient, and compares what that adds
with a training step (forward, backward, optimiser) of the U-Net on EfficientNet-B2 and of the U-Net of
landsat_segmentation. All takes turns, and the process's own processor time counts, with one thread, so that other work
on the machine meets all alike. Prints milliseconds a batch and shares of a step: what loading with flips and brightness
alone takes, and what each ingredient adds to that; the aim is at most 10 % for composited clouds at the share of
patches that the recipe composites.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cloud_assets.families.segmentation.batches import Composition, PatchSource, TrainingBatches
from cloud_assets.families.segmentation.recipe import RANDOM_SENSORS, Segmentation, mixed_with_simulation
from cloud_assets.families.segmentation.train import SegmentationModule, class_codes
from cloud_assets.inference.device import autocast, keep_freed_memory
from cloud_assets.networks.specifications import EfficientNetUNet, NetworkSpecification, UNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation.clouds import CLEAR_SKY
from cloud_assets.simulation.patch import SimulationRecipe

BANDS = ("red", "green", "blue", "nir")
BATCH, SIZE = 8, 256
BASE = "flips and brightness alone"
NETWORKS: dict[str, NetworkSpecification] = {"U-Net EfficientNet-B2": EfficientNetUNet(), "U-Net": UNet(width=32)}


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description="Cost of simulated clouds and random sensors.")
    parser.add_argument("--patches", type=int, default=64, help="patches an ingredient and round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    recipe = mixed_with_simulation(NETWORKS["U-Net"], steps=1)
    with tempfile.TemporaryDirectory() as name:
        clear = SimulationRecipe(clouds=CLEAR_SKY)
        store = simulated_store(
            Path(name), instrument="landsat8_l1", bands=BANDS, size=SIZE, count=24, recipe=clear, workers=1
        )
        makers: dict[str, Callable[[], object]] = {
            BASE: _maker(store, Augmentation(), 0.0),
            "composited clouds": _maker(store, Augmentation(), 1.0),
            "random sensors": _maker(store, RANDOM_SENSORS, 0.0),
            "texture": _maker(store, Augmentation(), 0.0, texture=True),
        }
        steps = {title: _step(network) for title, network in NETWORKS.items()}
        spent: dict[str, list[float]] = {title: [] for title in (*makers, *steps)}
        for _ in range(options.rounds):
            for title, make in makers.items():
                spent[title].append(_seconds(make, options.patches // BATCH))
            for title, step in steps.items():
                spent[title].append(_seconds(step, 2))
    cost = {title: float(np.median(values)) for title, values in spent.items()}
    plain = cost[BASE]
    share = recipe.composited_fraction * (1 - recipe.simulated_fraction)
    everywhere = "composited clouds"
    cost[f"{everywhere}, {share:.0%} of the patches as in the recipe"] = plain + share * (cost[everywhere] - plain)
    print("what", "ms a batch", *(f"added to a step of the {title}" for title in steps), sep=" | ")
    for title, value in cost.items():
        added = ["" if title in steps else f"{(value - (title != BASE) * plain) / cost[step]:.1%}" for step in steps]
        print(title, f"{1000 * value:.1f}", *added, sep=" | ")


def _maker(
    store: PatchStore, augmentation: Augmentation, composited: float, *, texture: bool = False
) -> Callable[[], object]:
    """Makes the next batch at each call."""
    rows = np.arange(len(store))
    haze = SimulationRecipe().haze
    compositor = CloudCompositor("landsat8_l1", BANDS, haze=haze, size=SIZE, fields=12) if composited else None
    source = PatchSource(store, rows, list(range(len(BANDS))))
    composition = Composition(source, None, 0.0, compositor, frozenset(rows.tolist()), composited)
    batches = TrainingBatches(
        composition,
        Preprocessing(instrument="landsat8_l1", bands=BANDS, clip=(0.0, 1.2), texture=texture),
        Augmenter(augmentation),
        class_codes(Segmentation(network=UNet())),
        batch_size=BATCH,
        crop=SIZE,
        multiple=32,
        seed=0,
    )
    number = iter(range(10**9))
    return lambda: batches[next(number)]


def _step(network: NetworkSpecification) -> Callable[[], object]:
    """One training step at each call."""
    module = SegmentationModule(network.build(len(BANDS), 1), Segmentation(network=network))
    module.to(memory_format=torch.channels_last)
    module.train()
    optimiser = module.configure_optimizers()
    images = torch.rand(BATCH, len(BANDS), SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    truth = torch.randint(0, 2, (BATCH, SIZE, SIZE))

    def step() -> None:
        optimiser.zero_grad()
        with autocast("auto", torch.device("cpu")):
            loss = module.loss(module.network(images), truth)
        loss.backward()
        optimiser.step()

    step()  # allocates
    return step


def _seconds(call: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


if __name__ == "__main__":
    main()
