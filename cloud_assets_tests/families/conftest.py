"""Patches whose best mask is known, and a model that reads it off them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cloud_assets.families.segmentation.recipe import SegmentationEvaluation
from cloud_assets.families.segmentation.stitched_scenes import Cloud38StitchedScenes
from cloud_assets.inference.bundle import ModelCard, Threshold, TrainingRecord
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets_tests.any_family import evaluate_by
from cloud_assets_tests.patch_arrays import store_arrays

BANDS = ("red", "green", "blue", "nir")


def make_card(classes: tuple[str, ...] = ("clear", "cloud"), **changes: Any) -> ModelCard:
    record = TrainingRecord(
        recipe={"loss": {"focal": 0.25}},
        seed=0,
        epochs_run=3,
        best_epoch=1,
        history=({"train_loss": 1.0, "validation_iou": 0.3}, {"train_loss": 0.5, "validation_iou": 0.6}),
        patches_version="p",
        splits_version="s",
        fingerprint="f",
        seconds=60.0,
        device="cpu",
    )
    content: dict[str, Any] = {
        "task": "clouds",
        "variant": "unet",
        "family": "segmentation",
        "network": UNet(width=2),
        "in_channels": 4,
        "out_channels": len(classes),
        "preprocessing": Preprocessing(instrument="landsat8_l1", bands=BANDS),
        "classes": classes,
        "threshold": Threshold(value=0.5, method="fixed", unit="cloud probability"),
        "training": record,
    }
    return ModelCard(**content | changes)


class RulePredictor:
    """A model that is a plain function of the digital numbers: (N, C, H, W) -> probability (N, H, W)."""

    def __init__(
        self,
        rule: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
        card: ModelCard | None = None,
        threshold: float = 0.5,
    ) -> None:
        self.card = card or make_card()
        self.rule, self.threshold = rule, threshold
        self.seen_bands: set[int] = set()

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        self.seen_bands.add(dn.shape[1])
        probability = self.rule(dn).astype(np.float32)
        mask = np.where((dn == 0).all(axis=1), 255, probability >= self.threshold).astype(np.uint8)
        return {
            "mask": mask,
            "cloud_probability": probability,
            "class_probability": np.stack([1 - probability, probability], 1),
        }


def red_is_probability(dn: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return dn[:, 0] / 50_000


@pytest.fixture(scope="session")
def random_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[PatchStore, Splits]:
    """24 patches of 12 scenes with random pixels, random codes (255 among them) and some nodata."""
    rng = np.random.default_rng(7)
    images = rng.integers(1, 50_000, (24, 4, 16, 16)).astype(np.uint16)
    images[:, :, :2, :3] = 0
    masks = rng.choice([0, 1, 2, 3, 255], (24, 16, 16), p=[0.4, 0.2, 0.2, 0.1, 0.1]).astype(np.uint8)
    groups = [f"{number // 2:03d}" for number in range(24)]
    official = ["train"] * 12 + ["validation"] * 4 + ["test"] * 8
    store = store_arrays(
        tmp_path_factory.mktemp("random") / "store",
        images,
        masks,
        bands=BANDS,
        instrument="landsat8_l1",
        groups=groups,
        official_splits=official,
        dataset="random",
    )
    return store, GroupedSplit().split(store)


@pytest.fixture(scope="session")
def random_evaluation(random_store: tuple[PatchStore, Splits]) -> Evaluation:
    """What a model that reads its probability off the red band scores on those patches."""
    recipe = SegmentationEvaluation(
        batch_size=3, worst_patches=2, typical_patches=2, protocols=(Cloud38StitchedScenes(),)
    )
    return evaluate_by(recipe, RulePredictor(red_is_probability), *random_store)
