"""A task that a tiny network can learn: bright squares are cloud."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays

BANDS = ("B04", "B03", "B02")
SPLIT_SIZES = {"train": 12, "validation": 4, "test": 2}


def bright_squares(count: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sentinel-2 digital numbers (N, 3, size, size) and their cloud codes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(500, 1500, (count, 3, size, size)).astype(np.uint16)
    masks = np.zeros((count, size, size), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        row, column = rng.integers(0, size - 12, 2)
        image[:, row : row + 12, column : column + 12] += 2000
        mask[row : row + 12, column : column + 12] = rng.integers(1, 3)
    return images, masks


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    images, masks = bright_squares(sum(SPLIT_SIZES.values()))
    splits = [name for name, count in SPLIT_SIZES.items() for _ in range(count)]
    return store_arrays(
        tmp_path_factory.mktemp("toy") / "store",
        images,
        masks,
        bands=BANDS,
        instrument="sentinel2_l1c",
        official_splits=splits,
    )


@pytest.fixture(scope="session")
def toy_splits(toy_store: PatchStore) -> Splits:
    return GroupedSplit().split(toy_store)


def _silence(epoch: int, metrics: Mapping[str, float]) -> None:
    pass


@pytest.fixture
def toy_run(toy_store: PatchStore, toy_splits: Splits, tmp_path: Path) -> Callable[..., TrainingRun]:
    def make(
        name: str = "run", on_epoch: Callable[[int, Mapping[str, float]], None] = _silence, **changes: Any
    ) -> TrainingRun:
        defaults: dict[str, Any] = {"store": toy_store, "splits": toy_splits}
        settings = {**defaults, **changes}
        return TrainingRun("toy", "unet", workspace=tmp_path / name, on_epoch=on_epoch, progress=False, **settings)

    return make


@pytest.fixture
def toy_recipe() -> Callable[..., Segmentation]:
    """A recipe of a tiny network; keywords change the optimisation, or the recipe itself where they name its fields."""

    def make(**changes: Any) -> Segmentation:
        of_recipe = {name: changes.pop(name) for name in list(changes) if name in Segmentation.model_fields}
        optimisation = {
            "max_epochs": 3,
            "steps_per_epoch": 4,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "precision": "32",
            "threads": 1,
            **changes,
        }
        settings = {
            "network": UNet(width=4, depth=2),
            "crop": None,
            "augmentation": Augmentation.none(),
            "optimisation": Optimisation(**optimisation),
            **of_recipe,
        }
        return Segmentation(**settings)

    return make
