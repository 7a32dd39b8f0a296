"""Fixtures shared by all tests."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # More threads than cores slow each other down.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // int(workers))))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real imagery beside a checkout of the project; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real imagery is not beside this checkout")
    return folder


@pytest.fixture
def tiny_bundle() -> Callable[..., "ModelBundle"]:
    """Makes segmentation models of four Landsat bands with random weights: same seed, same model."""

    def make(task: str = "clouds", variant: str = "unet", seed: int = 0, **training: Any) -> "ModelBundle":
        import torch

        from cloud_assets.inference.bundle import ModelBundle, ModelCard, Threshold, TrainingRecord
        from cloud_assets.networks.specifications import UNet
        from cloud_assets.patches.preprocessing import Preprocessing

        record = {
            "recipe": {"network": {"architecture": "unet", "width": 2}, "optimisation": {"seed": seed}},
            "seed": seed,
            "epochs_run": 2,
            "best_epoch": 1,
            "history": ({"loss": 0.5, "validation_iou": 0.1}, {"loss": 0.4, "validation_iou": 0.2}),
            "patches_version": "patches",
            "splits_version": "splits",
            "fingerprint": f"fingerprint{seed}",
            "seconds": 1.0,
            "device": "cpu",
        }
        card = ModelCard(
            task=task,
            variant=variant,
            family="segmentation",
            network=UNet(width=2, depth=1),
            in_channels=4,
            out_channels=2,
            preprocessing=Preprocessing(instrument="landsat8_l1", bands=("red", "green", "blue", "nir")),
            classes=("clear", "cloud"),
            threshold=Threshold(value=0.5, method="fixed", unit="cloud probability"),
            training=TrainingRecord(**{**record, **training}),
            metrics={"iou": 0.2},
            details={"cloud_classes": [1]},
        )
        torch.manual_seed(seed)
        return ModelBundle(card, card.network.build(4, 2).state_dict())

    return make
