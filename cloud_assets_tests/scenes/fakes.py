"""Models whose answers are known without computing: a brightness threshold, a constant, the identity."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

from cloud_assets.inference.bundle import ModelBundle, ModelCard, Threshold, TrainingRecord
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing

RECORD = TrainingRecord(
    recipe={},
    seed=0,
    epochs_run=1,
    best_epoch=0,
    history=(),
    patches_version="p",
    splits_version="s",
    fingerprint="f",
    seconds=1,
    device="cpu",
)
RGBN = ("red", "green", "blue", "nir")


def make_card(instrument: str = "landsat8_l1", bands: Sequence[str] = RGBN, **changes: Any) -> ModelCard:
    classes = changes.pop("classes", ("clear", "cloud"))
    preprocessing = changes.pop("preprocessing", None)
    preprocessing = preprocessing or Preprocessing(instrument=instrument, bands=tuple(bands), clip=(0, 1))
    values: dict[str, Any] = {
        "task": "landsat_segmentation",
        "variant": "brightness",
        "family": "segmentation",
        "network": UNet(width=2, depth=1),
        "in_channels": len(bands),
        "out_channels": 1 if len(classes) == 2 else len(classes),
        "preprocessing": preprocessing,
        "classes": classes,
        "threshold": Threshold(value=0.5, method="fixed", unit="cloud probability"),
        "training": RECORD,
        "details": {"cloud_classes": [1] if len(classes) == 2 else [1, 2]},
    }
    return ModelCard(**{**values, **changes})


def make_bundle(**changes: Any) -> ModelBundle:
    """A small untrained U-Net, the same at each call."""
    card = make_card(**changes)
    torch.manual_seed(1)
    return ModelBundle(card, card.network.build(card.in_channels, card.out_channels, pretrained=False).state_dict())


class FakeBackEnd(torch.nn.Module):
    """Computes logits with a function of numpy arrays instead of a network."""

    name = "fake"

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.function = function

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.function(pixels.contiguous().numpy()))


def bright_is_cloud(pixels: np.ndarray) -> np.ndarray:
    """(N, C, H, W) reflectance -> (N, 1, H, W) logits, 0 at a reflectance of 0.3."""
    return ((pixels.mean(axis=1, keepdims=True) - 0.3) * 20).astype(np.float32)


def write_geotiff(
    path: Path,
    pixels: np.ndarray,
    bands: Sequence[str] | None = RGBN,
    *,
    crs: str | None = "EPSG:32633",
    metres: float = 30.0,
    corner: tuple[float, float] = (500_000.0, 4_600_000.0),
    nodata: float | None = 0,
    **options: Any,
) -> Path:
    """Writes (C, H, W) pixels as a GeoTIFF."""
    count, height, width = pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": crs, "transform": rasterio.Affine(metres, 0, corner[0], 0, -metres, corner[1])} if crs else {}
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **{**profile, **place, "nodata": nodata, **options}) as raster:
        raster.write(pixels)
        if bands is not None:
            raster.descriptions = tuple(bands)
    return path


def landsat_dn(reflectance: np.ndarray) -> np.ndarray:
    return np.rint((reflectance + 0.1) / 2e-5).astype(np.uint16)


def cloudy_reflectance(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(4, H, W) dark ground with soft bright spots."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    field = np.zeros((height, width), np.float32)
    for _ in range(max(3, height * width // 8000)):
        row, column, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(6, 20)
        field = np.maximum(field, np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * size**2)))
    noise = rng.normal(0, 0.01, (4, height, width)).astype(np.float32)
    return np.clip(0.08 + 0.7 * field + noise, 0.01, 1.0)
