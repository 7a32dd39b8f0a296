import json
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.augmenter import Augmenter

EVERYTHING = Augmentation(
    rotation_degrees=30,
    shift=0.1,
    zoom=0.1,
    gamma=0.2,
    band_offset=0.02,
    blur=0.5,
    noise=0.01,
    coarser=0.5,
    saturation=0.5,
    quantisation=0.5,
    band_dropout=0.5,
    nodata_wedge=0.5,
)


def patch(bands: int = 4, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reflectance (H, W, C), cloud codes and validity."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.05, 1.2, (size, size, bands)).astype(np.float32)
    mask = rng.integers(0, 4, (size, size), dtype=np.uint8)
    valid = np.ones((size, size), bool)
    valid[:5] = False
    image[~valid], mask[~valid] = 0, 255
    return image, mask, valid


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7, 13])
def test_any_number_of_bands(bands: int) -> None:
    image, mask, valid = patch(bands)
    augment = Augmenter(EVERYTHING)
    for index in range(30):
        result = augment(image, mask, valid, key=(0, 0, index))
        assert (result.image.shape, result.image.dtype) == (image.shape, np.float32)
        assert (result.mask.shape, result.mask.dtype) == (mask.shape, np.uint8)
        assert np.isfinite(result.image).all()
        # Nodata is 0 and unlabelled, and everything unlabelled here is nodata.
        assert not result.image[~result.valid].any()
        np.testing.assert_array_equal(result.mask == 255, ~result.valid)


def test_the_same_key_gives_the_same_patch_in_any_order() -> None:
    arrays = patch()
    first = Augmenter(EVERYTHING)
    forwards = [first(*arrays, key=(7, epoch, 3)) for epoch in range(8)]
    second = Augmenter(EVERYTHING)
    backwards = [second(*arrays, key=(7, epoch, 3)) for epoch in reversed(range(8))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    sums = {float(result.image.sum()) for result in forwards}
    assert len(sums) == 8


def test_the_same_key_gives_the_same_patch_in_another_process() -> None:
    code = """
import json, numpy as np
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets_tests.patches.test_augmentation import EVERYTHING, patch
print(json.dumps([float(Augmenter(EVERYTHING)(*patch(), key=(1, 2, k)).image.sum()) for k in range(5)]))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    augment = Augmenter(EVERYTHING)
    expected = [float(augment(*patch(), key=(1, 2, index)).image.sum()) for index in range(5)]
    assert json.loads(printed.splitlines()[-1]) == expected


def test_image_mask_and_validity_move_together() -> None:
    size = 48
    codes = np.random.default_rng(0).integers(0, 4, (size, size), dtype=np.uint8)
    valid = np.ones((size, size), bool)
    valid[:, :9] = False
    mask = np.where(valid, codes, np.uint8(255))
    image = np.where(valid, codes + 1, 0).astype(np.float32)[..., None].repeat(3, axis=2)
    augment = Augmenter(Augmentation().geometric_only())
    seen = set()
    for index in range(40):
        result = augment(image, mask, valid, key=(index,))
        np.testing.assert_array_equal(result.image[..., 0], np.where(result.valid, result.mask + 1.0, 0))
        np.testing.assert_array_equal(result.image[..., 0], result.image[..., 2])
        np.testing.assert_array_equal(np.bincount(result.mask.ravel()), np.bincount(mask.ravel()))
        seen.add(result.mask.tobytes())
    assert len(seen) == 8  # all mirror images and quarter turns of a square


def test_what_a_rotation_uncovers_is_nodata() -> None:
    image, mask = np.full((64, 64, 2), 0.3, np.float32), np.zeros((64, 64), np.uint8)
    augment = Augmenter(Augmentation.none().model_copy(update={"rotation_degrees": 45.0}))
    results = [augment(image, mask, key=(index,)) for index in range(10)]
    assert any((~result.valid).mean() > 0.05 for result in results)
    for result in results:
        assert (result.mask[~result.valid] == 255).all()
        inner = result.image[16:48, 16:48]
        np.testing.assert_allclose(inner, 0.3, atol=1e-5)


def test_no_augmentation_changes_nothing() -> None:
    image, mask, valid = patch()
    augment = Augmenter(Augmentation.none())
    for index in range(5):
        result = augment(image, mask, valid, key=(index,))
        np.testing.assert_array_equal(result.image, image)
        np.testing.assert_array_equal(result.mask, mask)
        np.testing.assert_array_equal(result.valid, valid)


def test_the_given_arrays_are_not_changed() -> None:
    arrays = patch()
    before = [array.copy() for array in arrays]
    augment = Augmenter(EVERYTHING)
    for index in range(20):
        augment(*arrays, key=(index,))
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def only(**strengths: float) -> Augmentation:
    return Augmentation.none().model_copy(update=strengths)


def test_brightness_is_one_factor_within_its_range() -> None:
    image, mask, valid = patch()
    augment = Augmenter(only(brightness=0.3))
    factors = []
    for index in range(60):
        ratio = augment(image, mask, valid, key=(index,)).image[valid] / image[valid]
        assert ratio.std() < 1e-5
        factors.append(float(ratio.mean()))
    assert 0.7 <= min(factors) < 0.78
    assert 1.22 < max(factors) <= 1.3


def test_contrast_keeps_the_mean_of_the_valid_pixels() -> None:
    image, mask, valid = patch()
    augment = Augmenter(only(contrast=0.5))
    for index in range(20):
        changed = augment(image, mask, valid, key=(index,)).image[valid]
        np.testing.assert_allclose(changed.mean(axis=0), image[valid].mean(axis=0), atol=1e-4)
        ratio = changed.std(axis=0) / image[valid].std(axis=0)
        assert ratio.std() < 1e-4
        assert 0.5 <= ratio.mean() <= 1.5


def test_colour_keeps_the_mean_of_the_bands() -> None:
    image, mask, valid = patch()
    augment = Augmenter(only(colour=0.8))
    for index in range(20):
        changed = augment(image, mask, valid, key=(index,)).image[valid]
        np.testing.assert_allclose(changed.mean(axis=1), image[valid].mean(axis=1), atol=1e-5)


def test_saturation_clips_and_dropout_loses_one_band() -> None:
    image, mask, valid = patch()
    saturated = Augmenter(only(saturation=1.0))
    lost = Augmenter(only(band_dropout=1.0))
    for index in range(20):
        level = saturated(image, mask, valid, key=(index,)).image
        assert level.max() <= 1.1
        assert (level <= image + 1e-6).all()
        bands = lost(image, mask, valid, key=(index,)).image.any(axis=(0, 1))
        assert bands.sum() == 3
    single = patch(bands=1)
    assert lost(*single, key=(0,)).image.any(), "the only band is never lost"


def test_coarser_pixels_and_blur_smooth_without_darkening_edges() -> None:
    image = np.full((64, 64, 5), 0.4, np.float32)
    image += np.random.default_rng(0).normal(0, 0.05, image.shape).astype(np.float32)
    valid = np.ones((64, 64), bool)
    valid[:, :20] = False
    image[~valid] = 0
    mask = np.where(valid, 0, 255).astype(np.uint8)
    for recipe in (only(coarser=1.0, coarser_factor=4.0), only(blur=1.0)):
        results = [Augmenter(recipe)(image, mask, valid, key=(index,)).image[valid] for index in range(10)]
        assert min(result.std() for result in results) < 0.6 * image[valid].std()
        assert min(result.min() for result in results) > 0.15


def test_a_wedge_leaves_about_half_or_more() -> None:
    image, mask = np.full((64, 64, 3), 0.3, np.float32), np.zeros((64, 64), np.uint8)
    augment = Augmenter(only(nodata_wedge=1.0))
    shares = [augment(image, mask, key=(index,)).valid.mean() for index in range(40)]
    assert 0.4 < min(shares) < 0.75
    assert max(shares) > 0.9


def test_strengths_beyond_their_range_are_refused() -> None:
    for fields in ({"brightness": 1.5}, {"horizontal_flip": -0.1}, {"coarser_factor": 0.5}, {"sharpness": 1.0}):
        with pytest.raises(ValidationError):
            Augmentation(**fields)


def test_dropout_takes_away_optional_bands_only_and_turns_all_that_belongs_to_pixels() -> None:
    image, mask, valid = patch()
    both = np.dstack([mask, 200 - mask])
    bands = only(band_dropout=1.0, quarter_turns=1.0, resolution=(0.5, 2.0))
    changed = Augmenter(bands, optional=[(1, None), (3, 0)])
    lost = set()
    for index in range(20):
        result = changed(image, both, valid, key=(index,))
        is_gone = not result.image[..., 1].any()
        stands_in = np.array_equal(result.image[..., 3], result.image[..., 0])
        assert is_gone != stands_in
        assert result.image[..., [0, 2]].any(axis=(0, 1)).all()
        lost.add(1 if is_gone else 3)
        seen = result.valid
        np.testing.assert_array_equal(result.mask[..., 1][seen], 200 - result.mask[..., 0][seen])
        assert (result.mask[~seen] == 255).all()
    assert lost == {1, 3}
