"""The official 38-Cloud score against a scene made by hand, in the data set's own layout."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.families.segmentation.stitched_scenes import Cloud38StitchedScenes, StitchedScenes
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.families.conftest import BANDS

SIZE = 16
SCENES = {"LC08_one": (37, 45), "LC08_two": (32, 20)}
BLANK = ("LC08_one", 1, 2)


def write(path: Path, values: npt.NDArray[np.generic]) -> None:
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype
    ) as file:
        file.write(values, 1)


@pytest.fixture
def scenes(tmp_path: Path) -> dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]]:
    """Writes two test scenes; gives each one's truth and its red band, zero-padded around the centre."""
    folder = tmp_path / "38-cloud"
    rng = np.random.default_rng(0)
    for colour in (*BANDS, "gt"):
        values = np.full((SIZE, SIZE), 255 if colour == "gt" else 9, np.uint8 if colour == "gt" else np.uint16)
        write(folder / "38-Cloud_training" / f"train_{colour}" / f"{colour}_patch_1_1_by_1_LC08_train.TIF", values)
    made = {}
    for scene, (height, width) in SCENES.items():
        truth = rng.integers(0, 2, (height, width)).astype(np.uint8)
        rows, columns = math.ceil(height / SIZE), math.ceil(width / SIZE)
        top, left = (rows * SIZE - height) // 2, (columns * SIZE - width) // 2
        red = np.zeros((rows * SIZE, columns * SIZE), np.uint16)
        red[top : top + height, left : left + width] = rng.integers(1, 5000, (height, width))
        write(folder / "38-Cloud_test" / "Entire_scene_gts" / f"edited_corrected_gts_{scene}.TIF", truth)
        for row in range(rows):
            for column in range(columns):
                part = red[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
                if (scene, row + 1, column + 1) == BLANK:
                    part[:] = 0
                name = f"patch_{row * columns + column + 1}_{row + 1}_by_{column + 1}_{scene}.TIF"
                for colour in BANDS:
                    write(folder / "38-Cloud_test" / f"test_{colour}" / f"{colour}_{name}", part)
        made[scene] = truth, red
    return made


def stitched(tmp_path: Path, size: int | None, batch: int = 3) -> tuple[PatchStore, StitchedScenes]:
    catalog = Cloud38().catalog(tmp_path, tmp_path / "cache", progress=False)
    recipe = PatchRecipe(bands=BANDS, size=size, minimum_valid=0.001)
    store = cut_patches(catalog, recipe, tmp_path / f"store{size}", progress=False)
    test = np.flatnonzero(store.index["official_split"] == "test")
    collector = Cloud38StitchedScenes(patch_size=SIZE).scenes_of(store, test)
    assert collector is not None
    rng = np.random.default_rng(1)
    test = rng.permutation(test)
    for start in range(0, len(test), batch):
        rows = test[start : start + batch]
        dn = store.array()[rows]
        mask = np.where((dn == 0).all(axis=1), 255, 1).astype(np.uint8)
        collector.update(rows, mask, np.where(mask == 255, 1.0, dn[:, 0] / 50_000).astype(np.float32))
    return store, collector


def by_hand(truth: npt.NDArray[np.uint8], red: npt.NDArray[np.uint16]) -> dict[str, float]:
    """evaluation.m of the data set's authors, written down anew."""
    height, width = truth.shape
    top, left = (red.shape[0] - height) // 2, (red.shape[1] - width) // 2
    found = (red / 50_000 > 12 / 255)[top : top + height, left : left + width]
    tp, fp = int((found & (truth == 1)).sum()), int((found & (truth == 0)).sum())
    fn, tn = int((~found & (truth == 1)).sum()), int((~found & (truth == 0)).sum())
    assert tp + fp + fn + tn == height * width
    return {
        "official_precision": tp / (tp + fp),
        "official_recall": tp / (tp + fn),
        "official_specificity": tn / (tn + fp),
        "official_jaccard": tp / (tp + fp + fn),
        "official_accuracy": (tp + tn) / (tp + fp + fn + tn),
    }


@pytest.mark.parametrize("size", [None, 8, 12])
def test_the_score_is_the_authors(
    tmp_path: Path, scenes: dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]], size: int | None
) -> None:
    _, collector = stitched(tmp_path, size)
    expected = [by_hand(truth, red) for truth, red in scenes.values()]
    metrics = collector.metrics()
    for name in expected[0]:
        assert metrics[name] == pytest.approx(np.mean([scene[name] for scene in expected])), name


@pytest.mark.usefixtures("scenes")
def test_a_blank_patch_counts_as_clear_and_is_told(tmp_path: Path) -> None:
    store, collector = stitched(tmp_path, None)
    assert len(store) == 1 + 9 + 4 - 1
    table = collector.table().set_index("group")
    assert table["absent_patches"].to_dict() == {"LC08_one": 1, "LC08_two": 0}
    assert table[["tp", "fp", "fn", "tn"]].sum(axis=1).to_dict() == {"LC08_one": 37 * 45, "LC08_two": 32 * 20}
    assert table["jaccard"].is_monotonic_increasing


@pytest.mark.usefixtures("scenes")
def test_patches_of_training_scenes_belong_to_no_scene(tmp_path: Path) -> None:
    store, _ = stitched(tmp_path, None)
    train = np.flatnonzero(store.index["official_split"] != "test")
    assert Cloud38StitchedScenes().scenes_of(store, train) is None


def test_the_threshold_is_the_published_one() -> None:
    assert Cloud38StitchedScenes().threshold == pytest.approx(0.047059, abs=1e-6)
