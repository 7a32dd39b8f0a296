"""What does the training loop cost on top of the network?

    python benchmarks/training_speed.py [--network efficientnet|unet] [--threads 2] [--steps 12] [--rounds 3] [--busy]

Trains on simulated Landsat patches (4 bands, 256 x 256, batches of 8) in two ways: with a bare loop over one batch that
lies ready in memory, and with the project's own fit, which reads, crops, augments and preprocesses patches, watches for
divergence, sets the learning rate and counts metrics. The two take turns, so that the machine's other work meets both.
Prints images a second, their ratio (the aim is 95 %), and what a batch costs to make. On a machine that is busy
with other work, --busy counts this process's own processor time instead (with one thread).
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from cloud_assets.families.segmentation.batches import Composition, PatchSource, TrainingBatches, ValidationBatches
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.families.segmentation.train import SegmentationModule, class_codes
from cloud_assets.inference.device import autocast, keep_freed_memory
from cloud_assets.learning import fit as fitting
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.specifications import EfficientNetUNet, UNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.patches.store import PatchStore

BANDS = ("red", "green", "blue", "nir")
BATCH = 8


class TimedModule(SegmentationModule):
    """Times the steps of an epoch after the first, which allocates; validation and checkpoint are left out."""

    seconds = 0.0
    clock: Callable[[], float] = time.perf_counter

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Starts after the first step, stops after the last one."""
        if batch_idx == 0:
            self._start = TimedModule.clock()
        self.seconds = TimedModule.clock() - self._start


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description="The training loop against the bare network.")
    parser.add_argument("--network", choices=["efficientnet", "unet"], default="efficientnet")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    if options.busy:
        TimedModule.clock, options.threads = time.process_time, 1
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    network = EfficientNetUNet() if options.network == "efficientnet" else UNet()
    recipe = Segmentation(
        network=network,
        augmentation=Augmentation(),
        clip=(0.0, 1.2),
        optimisation=Optimisation(
            max_epochs=1, steps_per_epoch=options.steps, batch_size=BATCH, threads=options.threads
        ),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = simulated_store(folder / "cache", instrument="landsat8_l1", bands=BANDS, size=256, count=48)
        batches = training_batches(recipe, store)
        module = TimedModule(network.build(len(BANDS), 1), recipe).to(memory_format=torch.channels_last)
        bare_rates, fit_rates = [], []
        for number in range(options.rounds):
            bare_rates.append(bare_loop(module, batches[0], options.steps))
            fit_rates.append(own_fit(module, recipe, store, batches, folder / f"round{number}"))
        start = TimedModule.clock()
        for number in range(10):
            batches[number]
        loading = (TimedModule.clock() - start) / 10
    ratio = float(np.median(np.divide(fit_rates, bare_rates)))
    print("loop", "median images/s", "best images/s", "of the bare step", sep=" | ")
    print("bare step", f"{np.median(bare_rates):.2f}", f"{max(bare_rates):.2f}", "100 %", sep=" | ")
    print("the project's fit", f"{np.median(fit_rates):.2f}", f"{max(fit_rates):.2f}", f"{ratio:.1%}", sep=" | ")
    share = loading * max(bare_rates) / BATCH
    print("making a batch", f"{BATCH / loading:.2f}", "–", f"takes {share:.1%} of its time", sep=" | ")
    threads = f"{options.threads} thread{'' if options.threads == 1 else 's'}"
    print(f"\n{options.network}, 4 x 256 x 256, batches of {BATCH}, {threads}{', processor time' * options.busy}")


def training_batches(recipe: Segmentation, store: PatchStore) -> TrainingBatches:
    """Batches of all patches of a store."""
    real = PatchSource(store, np.arange(len(store)), list(range(len(BANDS))))
    return TrainingBatches(
        Composition(real, None, 0.0, None, frozenset(), 0.0),
        Preprocessing(instrument="landsat8_l1", bands=BANDS, clip=recipe.clip),
        Augmenter(recipe.augmentation),
        class_codes(recipe),
        batch_size=BATCH,
        crop=recipe.crop,
        multiple=recipe.network.size_multiple,
        seed=0,
    )


def bare_loop(module: TimedModule, batch: tuple[np.ndarray, np.ndarray], steps: int) -> float:
    """Images a second of forward, backward and optimiser step alone."""
    images = torch.from_numpy(batch[0]).contiguous(memory_format=torch.channels_last)
    truth = torch.from_numpy(batch[1]).long()
    optimiser = module.configure_optimizers()
    module.train()
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = TimedModule.clock()
        optimiser.zero_grad()
        with autocast("auto", torch.device("cpu")):
            loss = module.loss(module.network(images), truth)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    return BATCH * steps / (TimedModule.clock() - start)


def own_fit(
    module: TimedModule, recipe: Segmentation, store: PatchStore, batches: TrainingBatches, workspace: Path
) -> float:
    """Images a second of the project's loop."""
    source = PatchSource(store, np.arange(2), list(range(len(BANDS))))
    preprocessing = Preprocessing(instrument="landsat8_l1", bands=BANDS, clip=recipe.clip)
    checks = ValidationBatches(source, preprocessing, class_codes(recipe), batch_size=2, multiple=32)
    fitting.fit(
        module,
        batches,
        Subset(checks, [0]),
        recipe.optimisation.steps_per_epoch or 2,
        recipe,
        TrainingRun("benchmark", "fit", store, GroupedSplit().split(store), workspace, _ignore, progress=False),
    )
    return BATCH * ((recipe.optimisation.steps_per_epoch or 2) - 1) / module.seconds


def _ignore(epoch: int, metrics: Mapping[str, float]) -> None:
    pass


if __name__ == "__main__":
    main()
