"""A task whose whole lineage runs in seconds: real scenes and patches, a recipe that makes its model up."""

from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import numpy as np
import pandas as pd

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.inference.bundle import ModelBundle, ModelCard, Threshold, TrainingRecord
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.networks.specifications import UNet
from cloud_assets.orchestration.console import LOGGER, progress_logger
from cloud_assets.orchestration.jobs import task_jobs
from cloud_assets.orchestration.resources import AssetStore, Folders, Tracking
from cloud_assets.orchestration.task_definitions import lineage
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Gate
from cloud_assets.reports.evaluation import Evaluation, Evaluator
from cloud_assets.tasks.task import Task
from cloud_assets_tests.datasets.conftest import save_raster
from cloud_assets_tests.made_up_family import MADE_UP


class Made(Recipe):
    """Makes a model of a given quality; ``dies`` lets the first attempt end after one epoch."""

    family: ClassVar[str] = MADE_UP
    quality: float = 0.5
    dies: bool = False

    def make(self, run: TrainingRun) -> ModelBundle:
        first = 1 if run.checkpoints.is_dir() else 0
        for epoch in range(first, 2):
            run.on_epoch(epoch, {"loss": 1 / (epoch + 1)})
            run.checkpoints.mkdir(parents=True, exist_ok=True)
            if self.dies and first == 0:
                raise ConnectionResetError("the machine went away")
        import torch

        record = TrainingRecord(
            recipe=self.model_dump(),
            seed=0,
            epochs_run=2,
            best_epoch=1,
            history=({"loss": 1.0}, {"loss": 0.5}),
            patches_version=run.store.data_version,
            splits_version=run.splits.data_version,
            fingerprint=fingerprint(self, run.store, run.splits),
            seconds=1.0,
            device="cpu",
        )
        card = ModelCard(
            task=run.task,
            variant=run.variant,
            family="segmentation",
            network=UNet(width=2, depth=1),
            in_channels=4,
            out_channels=2,
            preprocessing=Preprocessing(instrument="landsat8_l1", bands=("red", "green", "blue", "nir")),
            classes=("clear", "cloud"),
            threshold=Threshold(value=0.5, method="fixed", unit="cloud probability"),
            training=record,
            metrics={"iou": self.quality},
            details={"cloud_classes": [1], "quality": self.quality},
        )
        torch.manual_seed(0)
        return ModelBundle(card, card.network.build(4, 2).state_dict())


class Told(Evaluator):
    """Finds the quality that a model was made with, in every test scene a little different."""

    family: ClassVar[str] = MADE_UP

    def judge(self, bundle: ModelBundle, store: PatchStore, splits: Splits) -> Evaluation:
        quality = float(bundle.card.details["quality"])
        groups = sorted(splits.table.loc[splits.table["split"] == "test", "group"].unique())
        scenes = pd.DataFrame({"group": groups, "iou": quality + 0.001 * np.arange(len(groups))})
        return Evaluation(
            task=bundle.card.task,
            variant=bundle.card.variant,
            metrics={"iou": float(scenes["iou"].mean()), "baseline_iou": 0.2},
            model_version=bundle.version,
            patches_version=store.data_version,
            splits_version=splits.data_version,
            is_synthetic=store.is_synthetic,
            tables={"per_scene": scenes},
        )


def small_task(**changes: Any) -> Task:
    """The task ``clouds``: two variants, of which ``second`` is optional."""
    settings: dict[str, Any] = {
        "name": "clouds",
        "title": "Clouds",
        "description": "A task for tests.",
        "dataset": Cloud38(),
        "patches": PatchRecipe(bands=("red", "green", "blue", "nir")),
        "split": GroupedSplit(fractions=(0.5, 0.2, 0.3)),
        "variants": {"first": Made(), "second": Made(quality=0.6)},
        "optional_variants": ("second",),
        "evaluation": Told(),
        "gate": Gate(metric="iou"),
        "tags": {"domain": "test"},
    }
    return Task(**{**settings, **changes})


def folders_in(folder: Path) -> Folders:
    """Data and results below a folder."""
    return Folders(data=str(folder / "raw"), home=str(folder / "home"))


def definitions(task: Task, folder: Path) -> dg.Definitions:
    """The task's code location, with data, results and MLflow store in a folder."""
    folders = folders_in(folder)
    return dg.Definitions(
        assets=lineage(task),
        jobs=task_jobs(task),
        resources={
            "folders": folders,
            "tracking": Tracking(uri=f"sqlite:///{folder}/mlflow/mlflow.db"),
            "io_manager": AssetStore(folders=folders),
        },
        loggers={LOGGER: progress_logger},
        executor=dg.in_process_executor,
    )


def write_patches(folder: Path, numbers: range, size: int = 32) -> None:
    """Patches of scenes of their own, half of each cloudy, in the layout of 38-Cloud below ``folder/raw``."""
    for number in numbers:
        pixels = np.random.default_rng(number).integers(6000, 9000, (4, size, size)).astype(np.uint16)
        pixels[:, : size // 2] += 12000
        truth = np.zeros((size, size), np.uint8)
        truth[: size // 2] = 255
        for name, band in zip(("red", "green", "blue", "nir", "gt"), (*pixels, truth), strict=True):
            path = folder / "raw" / "38-cloud" / "38-Cloud_training" / f"train_{name}"
            save_raster(path / f"{name}_patch_{number}_1_by_1_scene{number}.TIF", band)
