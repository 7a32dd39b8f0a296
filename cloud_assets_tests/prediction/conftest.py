from collections.abc import Callable
from typing import Any

import pytest
import torch

from cloud_assets.inference.bundle import ModelBundle, ModelCard, Threshold, TrainingRecord
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing


@pytest.fixture
def make_card() -> Callable[..., ModelCard]:
    def make(**changes: Any) -> ModelCard:
        record = TrainingRecord(
            recipe={"loss": "any"},
            seed=0,
            epochs_run=1,
            best_epoch=0,
            history=({"epoch": 0.0, "val_iou": 0.5},),
            patches_version="p",
            splits_version="s",
            fingerprint="f",
            seconds=1.0,
            device="cpu",
        )
        fields: dict[str, Any] = {
            "task": "toy",
            "variant": "unet",
            "family": "segmentation",
            "network": UNet(width=2, depth=2),
            "in_channels": 3,
            "out_channels": 1,
            "preprocessing": Preprocessing(instrument="sentinel2_l1c", bands=("B04", "B03", "B02")),
            "classes": ("clear", "cloud"),
            "threshold": Threshold(value=0.5, method="test", unit="cloud probability"),
            "training": record,
            "details": {"cloud_classes": [1]},
        }
        return ModelCard(**{**fields, **changes})

    return make


@pytest.fixture
def make_bundle(make_card: Callable[..., ModelCard]) -> Callable[..., ModelBundle]:
    """A model with random weights whose batch norm is not the identity."""

    def make(**changes: Any) -> ModelBundle:
        card = make_card(**changes)
        torch.manual_seed(0)
        network = card.network.build(card.in_channels, card.out_channels)
        with torch.no_grad():
            for _ in range(3):
                network(torch.rand(2, card.in_channels, 32, 32))
        return ModelBundle(card, network.state_dict())

    return make
