"""Writes a small 38-Cloud: simulated Landsat 8 scenes with slanted edges, cut into patches as the original is."""

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from cloud_assets.bands import INSTRUMENTS, THICK_CLOUD, THIN_CLOUD
from cloud_assets.datasets.samples.sample_writer import write_geotiff
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.worker_processes import map_in_processes

TITLE = "38-Cloud"
TRAINING_SCENES, TEST_SCENES = 16, 4  # scenes at scale 1
PATCH = 384  # pixels a side of a patch
HEIGHTS, WIDTHS = (620, 760), (800, 1100)  # ranges of the sizes of scenes in pixels
COLOURS = ("red", "green", "blue", "nir")

_INSTRUMENT = INSTRUMENTS["landsat8_l1"]
# Level 1 numbers are not corrected for the height of the sun, so white is as dark as 0.35 in winter.
_RECIPE = SimulationRecipe(
    ground=GroundRecipe(pixel_metres=(30.0, 30.0)),
    clouds=CloudRecipe(none=0.12),
    sensor=SensorRecipe(coarse_chance=0.0, quantisation_chance=0.0, wedge_chance=0.0),
    illumination=(0.35, 1.0),
)


def write(folder: Path, *, seed: int, scale: float, progress: bool, workers: int | None) -> tuple[str, str]:
    """Writes the sample as :func:`~cloud_assets.datasets.samples.sample_writer.write_sample` asks for it."""
    counts = {False: max(6, round(TRAINING_SCENES * scale)), True: max(2, round(TEST_SCENES * scale))}
    halves = {False: folder / "38-Cloud_training", True: folder / "38-Cloud_test"}
    for is_test, half in halves.items():
        for colour in COLOURS:
            (half / f"{'test' if is_test else 'train'}_{colour}").mkdir(parents=True)
        (half / ("Entire_scene_gts" if is_test else "train_gt")).mkdir()
    total = sum(counts.values())
    write_one = partial(_write_scene, seed, counts[False], halves)
    names: dict[bool, list[str]] = {False: [], True: []}
    nonempty: list[str] = []
    results = map_in_processes(write_one, range(total), total, workers=workers, label=TITLE, progress=progress)
    for index, (written, filled) in enumerate(results):
        names[index >= counts[False]] += written
        nonempty += [] if index >= counts[False] else filled
    for is_test, name, listed in (
        (False, "training_patches_38-Cloud.csv", names[False]),
        (False, "training_patches_38-cloud_nonempty.csv", nonempty),
        (True, "test_patches_38-Cloud.csv", names[True]),
    ):
        with (halves[is_test] / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["name"], *([patch] for patch in listed)])
    contents = (
        f"{len(names[False])} training patches of {counts[False]} Landsat 8 scenes and {len(names[True])} test patches "
        f"of {counts[True]} more, {PATCH} x {PATCH} pixels"
    )
    return contents, ", with masks of cloud."


def _write_scene(seed: int, training: int, halves: Mapping[bool, Path], index: int) -> tuple[list[str], list[str]]:
    """Writes the patches of a scene; returns the names of all and of those that are not blank."""
    is_test = index >= training
    folder = halves[is_test]
    rng = patch_generator(seed, index)
    shape = (int(rng.integers(*HEIGHTS)), int(rng.integers(*WIDTHS)))
    patch = simulate_patch(rng, shape, COLOURS, _RECIPE)
    covered = _swath(rng, shape)
    numbers = _INSTRUMENT.to_dn(patch.reflectance)
    numbers[:, ~covered] = 0
    truth = (np.isin(patch.mask, (THICK_CLOUD, THIN_CLOUD)) & covered).astype(np.uint8) * np.uint8(255)
    path, row = int(rng.integers(1, 234)), int(rng.integers(1, 120))
    scene = f"LC08_L1TP_{path:03d}{row:03d}_201601{1 + index % 28:02d}_SIMULATED_{index:02d}_T1"
    if is_test:
        write_geotiff(folder / "Entire_scene_gts" / f"edited_corrected_gts_{scene}.TIF", truth, compress="deflate")
    rows, columns = (-(-length // PATCH) for length in shape)
    # The original pads a scene evenly on both sides to whole patches.
    missing = rows * PATCH - shape[0], columns * PATCH - shape[1]
    padding = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
    numbers, truth = np.pad(numbers, ((0, 0), *padding)), np.pad(truth, padding)
    half = "test" if is_test else "train"
    names, filled = [], []
    for place in range(rows * columns):
        down, right = divmod(place, columns)
        window = np.s_[..., down * PATCH : (down + 1) * PATCH, right * PATCH : (right + 1) * PATCH]
        name = f"patch_{place + 1}_{down + 1}_by_{right + 1}_{scene}"
        for colour, band in zip(COLOURS, numbers[window], strict=True):
            write_geotiff(folder / f"{half}_{colour}" / f"{colour}_{name}.TIF", band, compress="deflate")
        if not is_test:
            write_geotiff(folder / "train_gt" / f"gt_{name}.TIF", truth[window], compress="deflate")
        names.append(name)
        # As in the original's list: more than a fifth of the pixels were observed.
        if np.all(numbers[window] != 0, axis=0).mean() > 0.2:
            filled.append(name)
    return names, filled


def _swath(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Where a scene has data: a leaning parallelogram, (H, W) bool."""
    lean = rng.uniform(0.10, 0.22)
    y, x = np.ogrid[: shape[0], : shape[1]]
    height, width = shape
    margin = lean * height
    inside: np.ndarray = (x + lean * y > margin) & (x + lean * y < width) & (y - lean * x * 0.9 < height * 0.97)
    return inside & (y - lean * x * 0.9 > -lean * width * 0.8)
