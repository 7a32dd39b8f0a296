"""Memory that a scene takes: windows under way keep to what was allowed, whatever the scene's size."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import Resampling

from cloud_assets.datasets.scene import Grid
from cloud_assets.families.segmentation.predictor import SegmentationPredictor
from cloud_assets.families.segmentation.products import segment
from cloud_assets.imagery.tiling import ArrayReader
from cloud_assets.inference.back_ends import pixel_bytes
from cloud_assets.inference.device import Parallelism
from cloud_assets.networks.specifications import UNet
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_array, predict_scene
from cloud_assets_tests.scenes.fakes import RGBN, cloudy_reflectance, landsat_dn, make_bundle


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("bytes_a_pixel", [200, 1000, 5000])
@pytest.mark.parametrize("gigabytes", [0.1, 0.4, 1, 8])
def test_windows_under_way_fit_the_memory(gigabytes, bytes_a_pixel, workers):
    options = SceneOptions(memory_gigabytes=gigabytes, batch_megapixels=5)
    chosen, calls = options.within_memory(bytes_a_pixel, workers)
    pixels = max(chosen.window**2, chosen.batch_megapixels * 1e6)
    assert 1 <= calls <= workers
    assert chosen.window <= options.window
    is_smallest = (chosen.window, calls) == (256, 1)
    assert calls * pixels * bytes_a_pixel <= gigabytes * 1e9 or is_smallest


def test_windows_are_alike_on_machines_with_more_or_fewer_cores():
    options = SceneOptions(memory_gigabytes=0.5)
    assert {options.within_memory(900, workers)[0].window for workers in (1, 2, 3, 4)} == {320}


def test_more_memory_makes_no_larger_windows_than_were_asked_for():
    assert SceneOptions(memory_gigabytes=64, window=512).within_memory(900, 4)[0].window == 512


def test_no_memory_at_all_is_refused():
    with pytest.raises(ValueError, match="greater than or equal"):
        SceneOptions(memory_gigabytes=0)


def test_a_wider_network_takes_more_bytes():
    narrow, wide = (make_bundle(network=UNet(width=width, depth=1)) for width in (4, 16))
    cpu = torch.device("cpu")
    assert pixel_bytes(narrow, cpu) < pixel_bytes(wide, cpu)
    assert pixel_bytes(wide, torch.device("meta")) == pixel_bytes(narrow, torch.device("meta"))


@pytest.mark.parametrize("height", [400, 1200])
def test_what_is_in_the_network_at_once_does_not_grow_with_the_scene(height):
    """Counted while the network runs, not by the clock."""
    predictor = SegmentationPredictor(make_bundle(), "cpu")
    lock, now, most = threading.Lock(), [0], [0]

    def counting(dn, inside, augment=None):
        with lock:
            now[0] += dn[:, 0].size
            most[0] = max(most[0], now[0])
        time.sleep(0.001)
        with lock:
            now[0] -= dn[:, 0].size
        return np.zeros((len(dn), 2, *dn.shape[2:]), np.float32)

    predictor.window_probability = counting
    dn = np.full((4, height, 300), 9000, np.uint16)
    reader = ArrayReader(dn, predictor.card.preprocessing.profile)
    options = SceneOptions(memory_gigabytes=3 * 256**2 * predictor.pixel_bytes / 1e9, overlap=16)
    blocks = list(segment(reader, Grid(height, 300, None, (1, 0, 0, 0, 1, 0)), predictor, options, Parallelism(4, 1)))
    assert sum(block.mask.size for block in blocks) == height * 300
    assert 0 < most[0] * predictor.pixel_bytes <= options.memory_gigabytes * 1e9


def test_a_mask_hardly_depends_on_the_memory():
    bundle, dn = make_bundle(), landsat_dn(cloudy_reflectance(700, 300))
    given = [SceneOptions(memory_gigabytes=memory, back_end="torch") for memory in (0.05, 1)]
    little, much = (predict_array(bundle, dn, RGBN, instrument="landsat8_l1", options=one) for one in given)
    assert np.nanmax(np.abs(little["cloud_probability"] - much["cloud_probability"])) < 0.01


@pytest.mark.slow
def test_memory_is_that_of_a_small_scene_at_the_size_of_a_sentinel2_tile(tmp_path):
    peaks = {side: _peak(tmp_path, side) for side in (2048, 10980)}
    assert max(peaks.values()) <= 1000, peaks
    assert peaks[10980] <= 1.1 * peaks[2048] + 60, peaks


def _peak(folder: Path, side: int) -> float:
    """Megabytes over the model that a scene takes, from the kernel's counter, in a process of its own."""
    import os
    import subprocess
    import sys

    script = (
        "import sys; from cloud_assets_tests.scenes.test_memory import measure; "
        "from pathlib import Path; print(measure(Path(sys.argv[1]), int(sys.argv[2])))"
    )
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", script, str(folder), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": root})
    return float(done.stdout.splitlines()[-1])


def measure(folder: Path, side: int) -> float:
    """As :func:`_peak`, in this process: a tiny network over a magnified scene."""
    coarse = landsat_dn(cloudy_reflectance(128, 128))
    path = folder / f"{side}.tif"
    form = {"driver": "GTiff", "dtype": "uint16", "count": 4, "nodata": 0, "tiled": True, "compress": "deflate"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6), "width": side, "height": side}
    step = 1024
    with rasterio.open(path, "w", **form, **place) as raster:
        raster.descriptions = RGBN
        for row in range(0, side, step):
            for column in range(0, side, step):
                height, width = min(step, side - row), min(step, side - column)
                block = np.kron(coarse, np.ones((1, 8, 8), np.uint16))[:, :height, :width]
                raster.write(block, window=((row, row + height), (column, column + width)))
        raster.build_overviews([2, 4, 8, 16], Resampling.nearest)
    bundle, options = make_bundle(), SceneOptions(back_end="torch", device="cpu", products=("mask",), overwrite=True)
    known = {"instrument": "landsat8_l1"}
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("only Linux tells the peak of a part of a process")
    reset.write_text("5")
    before = _status("VmRSS")
    predict_scene(bundle, path, folder / "products", options, **known)
    return _status("VmHWM") - before


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
