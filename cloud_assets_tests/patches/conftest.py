"""Small catalogues of real GeoTIFFs, and small stores, for the tests of the patch layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.transform import from_origin

from cloud_assets.datasets.rasters import file_digest
from cloud_assets.datasets.scene import RasterBand, Scene, SceneCatalog
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays

BANDS = ("red", "green", "blue", "nir")


def write_tif(path: Path, pixels: npt.NDArray[Any]) -> str:
    """Writes (C, H, W) pixels as a georeferenced GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype.name,
        "crs": "EPSG:32633",
        "transform": from_origin(500_000, 4_600_000, 30, 30),
    }
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
    return str(path)


def landsat_scene(
    folder: Path, name: str, image: npt.NDArray[Any], truth: npt.NDArray[np.uint8] | None = None, **fields: Any
) -> Scene:
    """A scene of red, green, blue, NIR in one file, with its truth in another."""
    path = write_tif(folder / f"{name}.tif", image)
    bands = {band: RasterBand(path, number) for number, band in enumerate(("B4", "B3", "B2", "B5"), start=1)}
    digest = file_digest(path)
    raster = None
    if truth is not None:
        raster = RasterBand(write_tif(folder / f"{name}_truth.tif", truth[None]))
        digest += file_digest(raster.path)
    fields = {"group": name, "instrument": "landsat8_l1", **fields}
    return Scene(scene_id=name, bands=bands, truth=raster, content_hash=digest, **fields)


def random_image(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint16]:
    """Four bands of valid digital numbers."""
    return rng.integers(1, 60_000, (4, height, width), dtype=np.uint16)


@pytest.fixture
def catalog(tmp_path: Path) -> Callable[..., SceneCatalog]:
    """Makes a catalogue of scenes of the given sizes, the same pixels for the same seed."""

    def make(sizes: list[tuple[int, int]], seed: int = 0, folder: str = "scenes") -> SceneCatalog:
        rng = np.random.default_rng(seed)
        scenes = []
        for number, (height, width) in enumerate(sizes):
            image = random_image(rng, height, width)
            truth = rng.integers(0, 4, (height, width), dtype=np.uint8)
            scenes.append(landsat_scene(tmp_path / folder, f"scene{number}", image, truth))
        return SceneCatalog("tiny", tuple(scenes))

    return make


@pytest.fixture
def coverage_store(tmp_path: Path) -> Callable[..., PatchStore]:
    """Makes a store whose masks have the given cloud codes: one string a patch, for example "clear thick"."""

    def make(contents: list[str], **fields: Any) -> PatchStore:
        codes = {"clear": 0, "thick": 1, "thin": 2, "shadow": 3, "unlabelled": 255}
        masks = np.zeros((len(contents), 8, 8), np.uint8)
        for mask, content in zip(masks, contents, strict=True):
            names = content.split()
            mask[:] = np.repeat([codes[name] for name in names], -(-64 // len(names)))[:64].reshape(8, 8)
        images = np.random.default_rng(0).integers(1, 60_000, (len(contents), 4, 8, 8), dtype=np.uint16)
        folder = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
        return store_arrays(folder, images, masks, bands=BANDS, instrument="landsat8_l1", **fields)

    return make
