"""Does the loss curve depend on how many devices share a batch?

    python benchmarks/training_ranks.py --out ranks.png [--ranks 2] [--epochs 8] [--steps 8] [--learning-rate 0.003]

Trains a small U-Net with batch normalisation on simulated patches (4 bands, 64 x 64, batches of 8) four times: as one
process, as one that adds up in another order (two threads; what rounding alone does to the curves), as several ranks,
and as several ranks that stop half-way and go on as one. Prints the curves and the largest differences, and draws them
over each other. On a GPU the ranks need one each; without, they are processes on the CPU.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.families.segmentation.train import train
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.patches.store import PatchStore

METRICS = {"train_loss": "training loss", "val_loss": "validation loss", "val_iou": "validation IoU"}
Curves = dict[str, list[Mapping[str, float]]]


class Stopped(Exception):
    """Ends a training half-way."""


def main() -> None:
    """Trains, prints and draws."""
    parser = argparse.ArgumentParser(description="Loss curves of one rank and of several.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    options = parser.parse_args()
    optimisation = Optimisation(
        max_epochs=options.epochs, steps_per_epoch=options.steps, batch_size=8, learning_rate=options.learning_rate,
        precision="32", threads=1, patience=None,
    )  # fmt: skip
    several = f"{options.ranks} ranks"
    resumed = f"{several}, after epoch {options.epochs // 2} one"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = simulated_store(
            folder / "patches", instrument="sentinel2_l1c", bands=("red", "green", "blue", "nir"), size=64, count=40
        )
        curves = {
            "1 rank": trained(optimisation, store, folder / "one"),
            "1 rank, two threads": trained(
                optimisation.model_copy(update={"threads": 2}), store, folder / "two_threads"
            ),
            several: trained(with_ranks(optimisation, options.ranks), store, folder / "several"),
        }
        try:
            trained(with_ranks(optimisation, options.ranks), store, folder / "resumed", options.epochs // 2)
        except Stopped:
            curves[resumed] = trained(optimisation, store, folder / "resumed")
    report(curves)
    draw(curves, options.out)


def with_ranks(optimisation: Optimisation, ranks: int) -> Optimisation:
    """The same on several devices."""
    return optimisation.model_copy(update={"devices": ranks})


def trained(
    optimisation: Optimisation, store: PatchStore, workspace: Path, stop_after: int | None = None
) -> list[Mapping[str, float]]:
    """The history of a training that may be stopped after so many epochs."""

    def listen(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch == stop_after:
            raise Stopped

    run = TrainingRun("ranks", "unet", store, GroupedSplit().split(store), workspace, listen, progress=False)
    network = UNet(width=8, depth=3)
    bundle = train(Segmentation(network=network, crop=None, optimisation=optimisation), run)
    print(f"{bundle.card.training.device}: {bundle.card.training.seconds:.1f} s", flush=True)
    return list(bundle.card.training.history)


def report(curves: Curves) -> None:
    """Prints the curves and the largest differences from the first."""
    for name, title in METRICS.items():
        first, *others = ([row[name] for row in rows] for rows in curves.values())
        print(f"{title:16}" + "  ".join(f"{value:.4f}" for value in first))
        for label, values in zip(list(curves)[1:], others, strict=True):
            largest = max(abs(one - other) for one, other in zip(first, values, strict=True))
            print(f"{'':16}{label}: differs by at most {largest:.1e}")


def draw(curves: Curves, out: Path) -> None:
    """Draws the curves over each other, and below how far they are from the first."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(METRICS), figsize=(12, 6), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    styles = [
        {"color": "0.75", "linewidth": 7}, {"color": "tab:green", "linewidth": 3}, {"color": "tab:blue"},
        {"color": "tab:red", "linestyle": "none", "marker": "o", "markersize": 5},
    ]  # fmt: skip
    for (name, title), (above, below) in zip(METRICS.items(), axes.T, strict=True):
        reference = [row[name] for row in next(iter(curves.values()))]
        epochs = range(1, len(reference) + 1)
        for (label, rows), style in zip(curves.items(), styles, strict=True):
            values = [row[name] for row in rows]
            above.plot(epochs, values, label=label, **style)
            below.plot(epochs, [value - one for value, one in zip(values, reference, strict=True)], **style)
        above.set_title(title)
        below.set_xlabel("epoch")
        below.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes[0, 0].legend(frameon=False)
    axes[1, 0].set_ylabel("difference from 1 rank")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
