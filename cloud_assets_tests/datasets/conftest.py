"""Tiny fakes of the data sets in their real layouts."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)


def save_raster(path: Path, pixels: npt.NDArray[Any], driver: str = "GTiff", **options: Any) -> Path:
    """Writes (C, H, W) or (H, W) pixels."""
    layers = pixels if pixels.ndim == 3 else pixels[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": driver, "count": len(layers), "height": layers.shape[1], "width": layers.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", dtype=layers.dtype, **profile, **options) as raster:
            raster.write(layers)
    return path


def cut_off(path: Path, share: float = 0.5) -> None:
    """Leaves only the beginning of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@dataclass
class FakeSample:
    """One sample of a fake CloudSEN12."""

    name: str
    split: str = "train"
    label_type: str = "high"
    roi_id: str = ""
    s2_id: str = ""
    real_size: int = 6
    image: npt.NDArray[Any] | None = None
    target: npt.NDArray[Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def pixels(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Image (13, H, W) and target (H, W); made from the name if not given."""
        rng = np.random.default_rng(list(self.name.encode()))
        size = self.real_size
        image = rng.integers(1, 9000, (13, size, size)).astype(np.uint16) if self.image is None else self.image
        target = rng.integers(0, 4, image.shape[1:]).astype(np.uint8) if self.target is None else self.target
        return image, target


def save_taco(path: Path, samples: Sequence[FakeSample]) -> Path:
    """Writes a TACO version 1 file as CloudSEN12 is published: an outer tortilla of one tortilla a sample."""
    import pandas as pd
    from pytortilla.create.main import create_a_tortilla
    from pytortilla.datamodel.main import Sample

    def bake(target: Path, rows: list[dict[str, Any]]) -> None:
        create_a_tortilla(pd.DataFrame(rows), target, 1, 1, 2**20, str, True)

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.parent / f"{path.name}.scratch"
    outer = []
    for sample in samples:
        inner = []
        for kind, pixels in zip(("s2l1c", "target"), sample.pixels(), strict=True):
            file = save_raster(scratch / f"{sample.name}.{kind}.tif", pixels, crs="EPSG:32633", transform=NORTH_UP)
            inner.append(Sample(id=kind, file_format="GTiff", path=file).export_metadata())
        whole = scratch / f"{sample.name}.tortilla"
        bake(whole, inner)
        properties = {
            "label_type": sample.label_type,
            "real_proj_shape": sample.real_size,
            "roi_id": sample.roi_id or f"ROI_{sample.name}",
            "s2_id": sample.s2_id or f"S2_{sample.name}",
            "clear_percentage": 25.0,
            **sample.extra,
        }
        record = Sample(id=sample.name, file_format="TORTILLA", path=whole, data_split=sample.split, **properties)
        outer.append(record.export_metadata())
    bake(path, outer)
    for file in scratch.iterdir():
        file.unlink()
    scratch.rmdir()
    return path


def save_cloud38_patch(
    folder: Path,
    name: str,
    size: int = 8,
    dtype: str = "uint16",
    truth: npt.NDArray[Any] | None = None,
    half: str = "train",
) -> None:
    """Writes the four bands (and the truth of a training patch) of one 38-Cloud patch."""
    place = folder / ("38-Cloud_training" if half == "train" else "38-Cloud_test")
    rng = np.random.default_rng(list(name.encode()))
    for colour in ("red", "green", "blue", "nir"):
        pixels = rng.integers(1, np.iinfo(dtype).max, (size, size)).astype(dtype)
        save_raster(place / f"{half}_{colour}" / f"{colour}_{name}.TIF", pixels)
    if half == "train":
        mask = np.where(rng.random((size, size)) < 0.5, 255, 0).astype(np.uint8) if truth is None else truth
        save_raster(place / "train_gt" / f"gt_{name}.TIF", mask)


def save_sen12ms_pair(folder: Path, season: str, scene: int, patch: int, **changes: npt.NDArray[Any] | None) -> None:
    """Writes an S1 and an S2 patch; ``s1=None`` or ``s2=None`` leaves one out, an array replaces its pixels."""
    rng = np.random.default_rng([scene, patch])
    pixels: dict[str, npt.NDArray[Any] | None] = {
        "s1": rng.uniform(-24, -2, (2, 8, 8)).astype(np.float32),
        "s2": rng.integers(1, 9000, (13, 8, 8)).astype(np.uint16),
        **changes,
    }
    for sensor, values in pixels.items():
        if values is not None:
            path = folder / season / f"{sensor}_{scene}" / f"{season}_{sensor}_{scene}_p{patch}.tif"
            save_raster(path, values, crs="EPSG:32633", transform=NORTH_UP)


@pytest.fixture
def raster() -> Callable[..., Path]:
    return save_raster


@pytest.fixture
def taco() -> Callable[..., Path]:
    return save_taco


@pytest.fixture
def sample() -> type[FakeSample]:
    return FakeSample


@pytest.fixture
def cloud38_patch() -> Callable[..., None]:
    return save_cloud38_patch


@pytest.fixture
def sen12ms_pair() -> Callable[..., None]:
    return save_sen12ms_pair


@pytest.fixture
def truncate() -> Callable[..., None]:
    return cut_off
