"""Workplaces and the data in them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cloud_assets_tests.end_to_end.workplace import Workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """An empty folder but for the project's ``dagster.yaml``."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copy(Path(__file__).resolve().parents[2] / "dagster.yaml", folder)
    ours = ("CLOUD_ASSETS_", "MLFLOW_", "DAGSTER_HOME", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return Workplace(folder, {**environment, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def small_38_cloud(workplace: Workplace) -> Path:
    """Ten patches of ten scenes in the layout of 38-Cloud, each with a square cloud.

    Beside it is a square of ground that is as bright in the visible bands: only the near infrared tells them apart, so
    that a brightness threshold does not suffice.
    """
    generator = np.random.default_rng(0)
    folder = workplace.folder / "raw" / "38-cloud" / "38-Cloud_training"
    for number in range(10):
        ground = generator.integers(7000, 9000, (4, 64, 64), np.uint16)
        truth = np.zeros((64, 64), np.uint8)
        top, bright_top = generator.integers(0, 34, 2)
        left, bright_left = (1, 33) if number % 2 else (33, 1)
        truth[top : top + 30, left : left + 30] = 255
        ground[:, truth > 0] += 11000
        ground[:3, bright_top : bright_top + 30, bright_left : bright_left + 30] += 11000
        for name, pixels in zip(("red", "green", "blue", "nir", "gt"), (*ground, truth), strict=True):
            path = folder / f"train_{name}" / f"{name}_patch_{number}_1_by_1_scene{number}.TIF"
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(path, "w", "GTiff", width=64, height=64, count=1, dtype=pixels.dtype) as raster:
                raster.write(pixels, 1)
    return folder
