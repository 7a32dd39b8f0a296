"""The training skeleton of all families: checks of patches and splits, loaders, fit, model card and bundle."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import Dataset

from cloud_assets.errors import NoUsablePatches
from cloud_assets.inference.bundle import CardSection, ModelBundle, ModelCard
from cloud_assets.inference.device import torch_threads
from cloud_assets.learning.fit import TrainedModule, fit
from cloud_assets.learning.numbered_batches import NumberedBatches
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.specifications import NetworkSpecification
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation.patch import SimulationRecipe
from cloud_assets.version import __version__

R = TypeVar("R", bound=Recipe)
_LIBRARIES = ("torch", "torchvision", "lightning", "segmentation-models-pytorch", "albumentations", "numpy")


@dataclass(frozen=True)
class Plan:
    """What a family adds to the training skeleton."""

    module: TrainedModule
    training: NumberedBatches
    validation: Dataset[Any]
    samples: int  # training samples; unless the recipe says otherwise, an epoch is one pass over them
    network: NetworkSpecification  # the network that the model keeps
    preprocessing: Preprocessing  # from digital numbers to the network's input
    out_channels: int  # output channels of the network
    patch_size: int  # side of the training patches, pixels
    section: CardSection
    classes: tuple[str, ...] = ()
    """Names of the classes, by their index."""
    fewest_batches: int = 20  # batches of such an epoch at least: with fewer, validation would cost more than training
    callbacks: Sequence[Callback] = ()
    finish: Callable[[ModelBundle], ModelBundle] | None = None
    """Completes the bundle after the fit, for example with a decision threshold."""


def train_model(recipe: R, run: TrainingRun, plan: Callable[[R, TrainingRun], Plan]) -> ModelBundle:
    """Trains a model, or resumes an interrupted training of it; see :meth:`Family.train`.

    ``plan`` makes the family's part; it is called after the checks, with torch seeded.
    """
    run.splits.check_belongs_to(run.store)
    optimisation = recipe.optimisation
    torch.manual_seed(optimisation.seed)
    made = plan(recipe, run)
    one_pass = -(-made.samples // optimisation.batch_size)
    steps = optimisation.steps_per_epoch or max(one_pass, made.fewest_batches)
    record = fit(made.module, made.training, made.validation, steps, recipe, run, made.callbacks)
    card = ModelCard(
        task=run.task,
        variant=run.variant,
        family=recipe.family,
        network=made.network,
        in_channels=made.preprocessing.channels,
        out_channels=made.out_channels,
        preprocessing=made.preprocessing,
        classes=made.classes,
        patch_size=made.patch_size,
        training=record,
        metrics={name: value for name, value in record.history[record.best_epoch].items() if name.startswith("val_")},
        software=software_versions(),
        details=made.section.details(),
        is_synthetic_training_data=run.store.is_synthetic,
    )
    bundle = ModelBundle(card, made.module.model_weights())
    with torch_threads(optimisation.threads):
        return bundle if made.finish is None else made.finish(bundle)


def software_versions() -> dict[str, str]:
    """Versions of the libraries that affect the result of a training."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"cloud-assets": __version__, "python": platform.python_version(), **libraries}


def require_masks(run: TrainingRun) -> None:
    """Raises :class:`NoUsablePatches` if the patches have no truth masks."""
    if not run.store.has_masks:
        raise NoUsablePatches(f"{run.store.directory}: there are no truth masks to learn from. Add them.")


def require_rows(run: TrainingRun, split: str, rows: npt.NDArray[np.int64], what: str) -> None:
    """Raises :class:`NoUsablePatches` if no row of a split can be used; ``what`` such as ``has a labelled pixel``."""
    if not len(rows):
        raise NoUsablePatches(
            f"{run.task}: none of the {len(run.splits.indices(split))} patches of the {split} split {what}. Give the "
            "split a larger fraction, or add such scenes."
        )


def simulated_patches(
    run: TrainingRun, preprocessing: Preprocessing, simulation: SimulationRecipe, *, size: int, count: int, seed: int
) -> PatchStore:
    """Simulated patches in the bands of a model, from the run's cache if they are there."""
    return simulated_store(
        run.cache or run.workspace / "simulated",
        instrument=preprocessing.instrument,
        bands=preprocessing.bands,
        size=size,
        count=count,
        seed=seed,
        recipe=simulation,
        progress=run.progress,
    )
