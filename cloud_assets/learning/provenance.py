"""Provenance of a model: the training record and the software versions of its card."""

import platform
from importlib.metadata import version

from pydantic import BaseModel

from cloud_assets.inference.bundle import TrainingRecord
from cloud_assets.learning.fit import FitResult
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.version import __version__

_LIBRARIES = ("torch", "torchvision", "lightning", "segmentation-models-pytorch", "albumentations", "numpy")


def software_versions() -> dict[str, str]:
    """Versions of the libraries that affect the result of a training."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"cloud-assets": __version__, "python": platform.python_version(), **libraries}


def training_record(recipe: BaseModel, seed: int, run: TrainingRun, result: FitResult) -> TrainingRecord:
    """The record of a finished training.

    Args:
        recipe: The recipe.
        seed: Its seed.
        run: The run.
        result: What :func:`~cloud_assets.learning.fit.fit` returned.
    """
    return TrainingRecord(
        recipe=recipe.model_dump(mode="json"),
        seed=seed,
        epochs_run=len(result.history),
        best_epoch=result.best_epoch,
        history=result.history,
        patches_version=run.store.data_version,
        splits_version=run.splits.data_version,
        fingerprint=fingerprint(recipe, run.store, run.splits),
        seconds=result.seconds,
        device=result.device,
        steps_run=result.steps,
        stopped_by=result.stopped_by,
    )
