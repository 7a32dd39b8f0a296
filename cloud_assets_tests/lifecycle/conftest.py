"""A task so small that its trainings take no time: the recipe makes up its model and can be told to fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tracking import Tracker
from cloud_assets_tests.made_up_family import MADE_UP
from cloud_assets_tests.patch_arrays import store_arrays


class FakeRecipe(Recipe):
    """Trains two epochs; the first attempt dies after one of them if it is told to."""

    family: ClassVar[str] = MADE_UP
    bundles: ClassVar[Callable[..., ModelBundle]]
    trained: ClassVar[list[int]] = []

    seed: int = 0
    dies: str = ""

    def make(self, run: TrainingRun) -> ModelBundle:
        first = 1 if run.checkpoints.is_dir() else 0
        self.trained.append(first)
        for epoch in range(first, 2):
            run.on_epoch(epoch, {"loss": 1 / (epoch + 1)})
            run.checkpoints.mkdir(parents=True, exist_ok=True)
            if self.dies and first == 0:
                raise {"error": ValueError("NaN"), "interrupt": KeyboardInterrupt()}[self.dies]
        return type(self).bundles(
            task=run.task,
            variant=run.variant,
            seed=self.seed,
            recipe=self.model_dump(),
            fingerprint=fingerprint(self, run.store, run.splits),
            patches_version=run.store.data_version,
            splits_version=run.splits.data_version,
            history=({"loss": 1.0}, {"loss": 0.5}),
        )


@pytest.fixture
def recipe(tiny_bundle: Callable[..., ModelBundle]) -> type[FakeRecipe]:
    FakeRecipe.bundles = staticmethod(tiny_bundle)
    FakeRecipe.trained.clear()
    return FakeRecipe


@pytest.fixture
def store(tmp_path: Path) -> PatchStore:
    """Six patches, the upper half of each cloudy and bright."""
    images = np.random.default_rng(0).integers(6000, 9000, (6, 4, 32, 32), np.uint16)
    images[:, :, :16] += 12000
    masks = np.zeros((6, 32, 32), np.uint8)
    masks[:, :16] = 1
    return store_arrays(
        tmp_path / "patches",
        images,
        masks,
        bands=("red", "green", "blue", "nir"),
        instrument="landsat8_l1",
        official_splits=["train", "train", "validation", "validation", "test", "test"],
    )


@pytest.fixture
def splits(store: PatchStore) -> Splits:
    return GroupedSplit().split(store)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Tracker(f"sqlite:///{path}").version_at("clouds", "champion")
    return path.read_bytes()


@pytest.fixture
def tracker(tmp_path: Path, empty_database: bytes) -> Tracker:
    path = tmp_path / "mlflow" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(empty_database)
    return Tracker(f"sqlite:///{path}")


@pytest.fixture
def warnings() -> list[Any]:
    return []
