from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.families.segmentation.batches import Composition, PatchSource, TrainingBatches, ValidationBatches
from cloud_assets.learning.numbered_batches import EpochSampler, endless_order
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays

PREPROCESSING = Preprocessing(instrument="sentinel2_l1c", bands=("B04", "B02"), clip=(0.0, 1.0))
CODES = np.where(np.arange(256) < 3, np.arange(256) > 0, 255).astype(np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> PatchStore:
    """Ten patches; all pixels of patch i are 1000 (i + 1), band B03 is a lure."""
    images = np.zeros((10, 3, 20, 20), np.uint16)
    images[:, [0, 2]] = (1000 * np.arange(1, 11))[:, None, None, None]
    images[:, 1] = 1
    masks = np.zeros((10, 20, 20), np.uint8)
    masks[:, :, 10:] = 1
    return store_arrays(tmp_path / "store", images, masks, bands=("B04", "B03", "B02"), instrument="sentinel2_l1c")


def batches(store: PatchStore, fraction: float = 0.0, **changes: Any) -> TrainingBatches:
    real = PatchSource(store, np.arange(0, 6), [0, 2])
    simulated = PatchSource(store, np.arange(6, 10), [0, 2])
    composition = Composition(real, simulated if fraction else None, fraction, None, frozenset(), 0.0)
    settings: dict[str, Any] = {"batch_size": 4, "crop": 8, "multiple": 8, "seed": 0, **changes}
    return TrainingBatches(composition, PREPROCESSING, Augmenter(Augmentation.none()), CODES, **settings)


def patches_in(images: np.ndarray) -> list[int]:
    """Which patches a batch holds, by their brightness."""
    return [round(float(image.max()) * 10) - 1 for image in images]


def test_each_patch_is_seen_equally_often(store: PatchStore) -> None:
    made = batches(store)
    seen = Counter(patch for number in range(15) for patch in patches_in(made[number][0]))
    assert seen == dict.fromkeys(range(6), 10)


def test_the_share_of_simulated_patches_is_exact_in_the_long_run(store: PatchStore) -> None:
    made = batches(store, fraction=0.3)
    seen = [patches_in(made[number][0]) for number in range(30)]
    simulated = [sum(patch >= 6 for patch in batch) for batch in seen]
    assert sum(simulated) == 36
    assert set(simulated) == {1, 2}
    assert all(len(batch) == 4 for batch in seen)
    assert all(patch >= 6 for patch in patches_in(batches(store, fraction=1.0)[3][0]))


def test_a_batch_depends_on_its_number_and_the_seed_only(store: PatchStore) -> None:
    made = batches(store)
    first = made[5]
    made[2]
    np.testing.assert_array_equal(first[0], batches(store)[5][0])
    np.testing.assert_array_equal(first[1], batches(store)[5][1])
    assert any(patches_in(made[n][0]) != patches_in(batches(store, seed=1)[n][0]) for n in range(5))


def test_crops_are_padded_to_the_multiple_and_padding_is_unlabelled(store: PatchStore) -> None:
    images, truth = batches(store, crop=None, multiple=16)[0]
    assert images.shape == (4, 2, 32, 32)
    assert truth.shape == (4, 32, 32)
    assert set(np.unique(truth[:, :20, :20])) == {0, 1}
    assert (truth[:, 20:] == 255).all()
    assert (truth[:, :, 20:] == 255).all()


def test_validation_patches_come_whole_and_in_order(store: PatchStore) -> None:
    source = PatchSource(store, np.array([3, 1, 7]), [0, 2])
    made = ValidationBatches(source, PREPROCESSING, CODES, batch_size=2, multiple=4)
    assert len(made) == 2
    assert [patches_in(made[number][0]) for number in range(2)] == [[3, 1], [7]]
    assert made[1][0].shape == (1, 2, 20, 20)
    np.testing.assert_allclose(made[0][0][0], 0.4)


def test_nodata_is_unlabelled_in_both(tmp_path: Path) -> None:
    images = np.full((1, 2, 8, 8), 3000, np.uint16)
    images[:, :, 0] = 0
    masks = np.ones((1, 8, 8), np.uint8)
    store = store_arrays(tmp_path / "store", images, masks, bands=("B04", "B02"), instrument="sentinel2_l1c")
    source = PatchSource(store, np.array([0]), [0, 1])
    composition = Composition(source, None, 0.0, None, frozenset(), 0.0)
    training = TrainingBatches(
        composition, PREPROCESSING, Augmenter(Augmentation.none()), CODES, batch_size=1, crop=None, multiple=1, seed=0
    )
    validation = ValidationBatches(source, PREPROCESSING, CODES, batch_size=1, multiple=1)
    for pixels, truth in (training[0], validation[0]):
        assert (truth[0, 0] == 255).all()
        assert (truth[0, 1:] == 1).all()
        assert (pixels[0, :, 0] == 0).all()
        np.testing.assert_allclose(pixels[0, :, 1:], 0.3, rtol=1e-6)


def test_the_endless_order_is_a_row_of_permutations() -> None:
    drawn = [endless_order(7, position, 3) for position in range(21)]
    for turn in range(3):
        assert sorted(drawn[7 * turn : 7 * turn + 7]) == list(range(7))
    assert drawn[:7] != drawn[7:14]


def test_batches_are_numbered_over_epochs() -> None:
    sampler = EpochSampler(3)
    assert list(sampler) == [0, 1, 2]
    sampler.set_epoch(4)
    assert list(sampler) == [12, 13, 14]
    assert len(sampler) == 3
