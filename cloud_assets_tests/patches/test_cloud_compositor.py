from collections.abc import Callable

import numpy as np
import pytest

from cloud_assets.errors import InvalidRecipe
from cloud_assets.patches.compositor import CloudCompositor, clear_patches, merged_labels
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation.clouds import CloudRecipe

BANDS = ("red", "green", "blue", "nir")
SIZE = 96


@pytest.fixture(scope="module")
def compositor() -> CloudCompositor:
    return CloudCompositor("landsat8_l1", BANDS, fields=6, size=SIZE)


def ground(size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reflectance = rng.uniform(0.03, 0.15, (4, size, size)).astype(np.float32)
    valid = np.ones((size, size), bool)
    valid[: size // 8] = False
    reflectance[:, ~valid] = 0
    mask = np.where(valid, 0, 255).astype(np.uint8)
    return reflectance, mask, valid


def test_labels_tell_what_was_laid_over(compositor: CloudCompositor) -> None:
    reflectance, mask, valid = ground()
    codes: set[int] = set()
    for index in range(30):
        cloudy, labels = compositor(reflectance, mask, valid, key=(index,))
        codes |= set(np.unique(labels).tolist())
        assert not cloudy[:, ~valid].any()
        assert (labels[~valid] == 255).all()
        brightness = cloudy.mean(axis=0) - reflectance.mean(axis=0)
        if (labels == 1).sum() > 50 and (labels == 0).sum() > 50:
            assert brightness[labels == 1].mean() > 0.15
            assert brightness[labels == 1].mean() > brightness[labels == 0].mean() + 0.1
        if (labels == 3).sum() > 50 and (labels == 0).sum() > 50:
            assert brightness[labels == 3].mean() < brightness[labels == 0].mean()
    assert codes == {0, 1, 2, 3, 255}


def test_the_same_key_gives_the_same_clouds_and_leaves_the_input(compositor: CloudCompositor) -> None:
    arrays = ground()
    before = [array.copy() for array in arrays]
    one = [compositor(*arrays, key=(1, index)) for index in range(5)]
    other = [compositor(*arrays, key=(1, index)) for index in reversed(range(5))][::-1]
    for (image, mask), (image2, mask2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(image, image2)
        np.testing.assert_array_equal(mask, mask2)
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)
    assert len({image.tobytes() for image, _ in one}) == 5


@pytest.mark.parametrize("size", [SIZE // 2, SIZE, SIZE + 37])
def test_patches_may_be_smaller_or_larger_than_the_fields(compositor: CloudCompositor, size: int) -> None:
    cloudy, labels = compositor(*ground(size), key=(3,))
    assert (cloudy.shape, labels.shape) == ((4, size, size), (size, size))
    assert (cloudy.dtype, labels.dtype) == (np.float32, np.uint8)


def test_existing_clouds_stay_labelled() -> None:
    mask = np.array([[0, 1, 2, 3, 255, 0]], np.uint8)
    for code, expected in ((0, [0, 1, 2, 3]), (1, [1, 1, 1, 1]), (2, [2, 1, 2, 2]), (3, [3, 1, 2, 3])):
        added = np.full((1, 6), code, np.uint8)
        valid = np.array([[True] * 5 + [False]])
        assert merged_labels(mask, added, valid)[0].tolist() == [*expected, 255, 255]


def test_cloudless_skies_are_left_out() -> None:
    compositor = CloudCompositor("landsat8_l1", BANDS, CloudRecipe(none=1e6, contrails=0), fields=4, size=SIZE)
    reflectance, mask, valid = ground()
    changed = [not np.array_equal(compositor(reflectance, mask, valid, key=(i,))[0], reflectance) for i in range(10)]
    assert all(changed)


def test_haze_brightens_dark_ground_most_in_the_blue_and_is_not_labelled() -> None:
    thin = dict.fromkeys(CloudRecipe().kinds, 0.0) | {"cumulus": 1.0, "contrails": 0.0, "strength": (1e-6, 1e-6)}
    cloudless = CloudRecipe.model_validate(thin)
    reflectance, mask, valid = ground()
    clear = CloudCompositor("landsat8_l1", BANDS, cloudless, fields=2, size=SIZE)
    hazy = CloudCompositor("landsat8_l1", BANDS, cloudless, haze=(0.5, 0.5), fields=2, size=SIZE)
    for index in range(4):
        seen, labels = hazy(reflectance, mask, valid, key=(index,))
        change = (seen - clear(reflectance, mask, valid, key=(index,))[0])[:, valid].mean(axis=1)
        assert (labels[valid] == 0).all()
        assert 0.01 < change[BANDS.index("nir")] < change[BANDS.index("red")] < change[BANDS.index("blue")] < 0.15
        assert not seen[:, ~valid].any()


def test_clear_patches_are_found(coverage_store: Callable[..., PatchStore]) -> None:
    store = coverage_store(["clear", "thick", "clear shadow", "unlabelled", "clear thin"])
    assert clear_patches(store, np.arange(5)).tolist() == [0, 2]
    assert clear_patches(store, np.array([1, 2, 4])).tolist() == [2]


def test_clouds_over_radar_are_refused() -> None:
    with pytest.raises(InvalidRecipe, match="not over dB of sentinel1_grd"):
        CloudCompositor("sentinel1_grd", ("VV", "VH"), fields=1, size=16)
