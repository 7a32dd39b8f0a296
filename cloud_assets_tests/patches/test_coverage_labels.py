"""Coverage classes and windows: the label is always that of the window's own pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.families.classification.coverage_labels import (
    CoverageClasses,
    cloud_percentage,
    label_windows,
    percentage_mismatches,
)
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays

CLASSES = CoverageClasses()


def gradient_store(folder: Path, count: int = 8, size: int = 32) -> PatchStore:
    """Patches whose left part is cloud, from none to all of it; every second cloudy pixel is thin."""
    masks = np.zeros((count, size, size), np.uint8)
    for number in range(count):
        width = round(size * number / (count - 1))
        masks[number, :, :width] = 1
        masks[number, ::2, :width] = 2
        masks[number, :, -1] = 3 if width < size else 1
    images = np.full((count, 2, size, size), 500, np.uint16)
    return store_arrays(folder, images, masks, bands=["red", "nir"], instrument="sentinel2_l1c")


@pytest.mark.parametrize(
    ("percentage", "label"),
    [(0, 0), (24.999, 0), (25, 1), (49.9, 1), (50, 2), (74.9, 2), (75, 3), (100, 3), (100 + 1e-12, 3)],
)
def test_boundaries_belong_to_the_class_above(percentage: float, label: int) -> None:
    assert CLASSES.classify(percentage) == label


def test_other_boundaries_and_impossible_ones() -> None:
    assert CoverageClasses(boundaries=(10.0,), names=("fair", "foul")).classify([9, 10]).tolist() == [0, 1]
    with pytest.raises(InvalidRecipe):
        CLASSES.classify([np.nan])
    with pytest.raises(InvalidRecipe):
        CLASSES.classify([101])
    for boundaries, names in [((50.0, 25.0), "abc"), ((25.0, 25.0), "abc"), ((25.0,), "abc"), ((25.0,), "aa")]:
        with pytest.raises(ValidationError):
            CoverageClasses(boundaries=boundaries, names=tuple(names))


def test_coverage_counts_thick_and_thin_over_labelled_pixels_only() -> None:
    mask = np.array([[1, 2, 0, 3], [255, 255, 255, 255]], np.uint8)
    assert cloud_percentage(mask) == 50
    assert np.isnan(cloud_percentage(np.full((2, 2), 255, np.uint8)))
    assert cloud_percentage(np.stack([mask, mask])).shape == (2,)


def test_label_is_that_of_the_windows_own_pixels(tmp_path: Path) -> None:
    store = gradient_store(tmp_path / "store")
    windows = label_windows(store, np.arange(8), CLASSES, count=100, scale=(0.2, 0.9))
    assert len(windows) == 100
    for position in range(len(windows)):
        mask = windows.read(store, position, "masks")
        assert mask.shape == tuple(windows.boxes[position, 2:])
        assert windows.percentages[position] == pytest.approx(float(cloud_percentage(mask)))
        assert windows.labels[position] == CLASSES.classify(windows.percentages[position])
        assert windows.read(store, position, "images").shape == (2, *mask.shape)


def test_windows_stay_within_the_split(tmp_path: Path) -> None:
    store = gradient_store(tmp_path / "store")
    windows = label_windows(store, np.array([1, 5]), CLASSES, count=40)
    assert set(windows.rows.tolist()) == {1, 5}


def test_windows_even_out_classes_and_patches(tmp_path: Path) -> None:
    store = gradient_store(tmp_path / "store")
    windows = label_windows(store, np.arange(8), CLASSES, count=108, scale=(0.3, 0.9))
    drawn = windows.subset(np.arange(8, 108))
    assert drawn.class_counts(4).tolist() == [25, 25, 25, 25]
    assert np.bincount(drawn.rows, minlength=8).min() > 0


def test_large_split_is_left_whole(tmp_path: Path) -> None:
    store = gradient_store(tmp_path / "store")
    windows = label_windows(store, np.arange(8), CLASSES, count=8)
    assert windows.rows.tolist() == list(range(8))
    assert set(windows.boxes[:, 2].tolist()) == {32}
    assert windows.percentages == pytest.approx(store.index["cloud_percentage"].to_numpy())


def test_same_seed_same_windows(tmp_path: Path) -> None:
    store = gradient_store(tmp_path / "store")
    first, again, other = (label_windows(store, np.arange(8), CLASSES, count=30, seed=seed) for seed in (1, 1, 2))
    assert (first.boxes == again.boxes).all()
    assert not np.array_equal(first.boxes, other.boxes)


def test_patch_with_few_labelled_pixels_is_refused(tmp_path: Path) -> None:
    masks = np.zeros((3, 10, 10), np.uint8)
    masks[0, 2:] = 255  # 20 % labelled: just enough
    masks[1, 2:] = 255
    masks[1, 0, 0] = 255  # 19 %
    images = np.full((3, 1, 10, 10), 9, np.uint16)
    store = store_arrays(tmp_path / "store", images, masks, bands=["red"], instrument="sentinel2_l1c")
    windows = label_windows(store, np.arange(3), CLASSES, count=1)
    assert windows.rows.tolist() == [0, 2]
    assert windows.refused == 1
    with pytest.raises(NoUsablePatches, match="20%"):
        label_windows(store, np.array([1]), CLASSES, count=1)
    with pytest.raises(NoUsablePatches):
        label_windows(store, np.array([], np.int64), CLASSES, count=1)


def test_percentages_that_disagree_with_the_masks_are_listed(tmp_path: Path, real_data: Path) -> None:
    from cloud_assets.datasets.cloudsen12 import CloudSEN12
    from cloud_assets.datasets.scene import SceneCatalog
    from cloud_assets.patches.cutting import cut_patches
    from cloud_assets.patches.recipe import PatchRecipe

    catalog = CloudSEN12().catalog(real_data, progress=False)
    store = cut_patches(catalog, PatchRecipe(bands=("red",)), tmp_path / "store", progress=False)
    assert list(percentage_mismatches(catalog, store)) == []
    scenes = list(catalog.scenes)
    wrong = {**scenes[3].attributes, "thin_percentage": float(scenes[3].attributes["thin_percentage"]) + 1.5}
    scenes[3] = replace(scenes[3], attributes=wrong)
    scenes[4] = replace(scenes[4], attributes={"thick_percentage": float("nan"), "thin_percentage": 0.0})
    altered = SceneCatalog(catalog.dataset, tuple(scenes), catalog.skipped, catalog.is_synthetic, catalog.notes)
    found = {scene: stated - measured for scene, measured, stated in percentage_mismatches(altered, store)}
    assert found.keys() == {scenes[3].scene_id, scenes[4].scene_id}
    assert found[scenes[3].scene_id] == pytest.approx(1.5, abs=0.05)


def test_percentages_count_every_pixel_and_say_nothing_of_scribbles_and_parts(tmp_path: Path) -> None:
    from cloud_assets.datasets.cloudsen12 import CloudSEN12
    from cloud_assets.datasets.samples.sample_writer import write_sample
    from cloud_assets.patches.cutting import cut_patches
    from cloud_assets.patches.recipe import PatchRecipe

    write_sample(tmp_path, ("cloudsen12",), scale=0.1, progress=False, workers=1)
    catalog = CloudSEN12().catalog(tmp_path, progress=False)
    assert {scene.label_type for scene in catalog} == {"high", "scribble"}
    for size in (None, 256):
        recipe = PatchRecipe(bands=("red",), size=size, minimum_valid=0.9)
        store = cut_patches(catalog, recipe, tmp_path / f"store{size}", progress=False)
        assert list(percentage_mismatches(catalog, store)) == []
