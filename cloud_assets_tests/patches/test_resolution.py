import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.augmenter import Augmenter, change_resolution


def disc(bands: int, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, x = np.mgrid[:64, :64]
    inside = np.hypot(y - 31.5, x - 31.5) < radius
    valid = np.ones((64, 64), bool)
    valid[:, :6] = False
    image = np.where(inside, 0.8, 0.1).astype(np.float32)[..., None].repeat(bands, 2)
    return image, np.where(valid, inside, 255).astype(np.uint8), valid


@pytest.mark.parametrize("bands", [1, 3, 4, 13])
@pytest.mark.parametrize("factor", [0.4, 0.99, 1.0, 1.7, 4.0])
def test_shapes_stay_and_labels_follow_the_image(bands: int, factor: float) -> None:
    image, mask, valid = change_resolution(*disc(bands, 20), factor, (0.5, 0.5))
    assert (image.shape, mask.shape, valid.shape) == ((64, 64, bands), (64, 64), (64, 64))
    assert (image.dtype, mask.dtype, valid.dtype) == (np.float32, np.uint8, np.bool_)
    np.testing.assert_array_equal(mask == 255, ~valid)
    is_bright = image[..., 0] > 0.45
    assert (is_bright == (mask == 1))[valid].mean() > 0.96


def test_coarser_pixels_show_smaller_things_and_mirror_the_rest() -> None:
    image, mask, _ = change_resolution(*disc(4, 10), 2.0, (0.0, 0.0))
    np.testing.assert_array_equal(image[:32, :32], image[:32, 32:][:, ::-1])
    # Four discs of half the radius cover as much as the one before.
    assert (mask == 1).sum() == pytest.approx(np.pi * 100, rel=0.1)
    assert (mask[:32, :32] == 1).sum() == pytest.approx(np.pi * 25, rel=0.15)


def test_finer_pixels_show_a_part_at_the_given_corner() -> None:
    plain = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None, None], (64, 64, 1)).copy()
    codes, valid = np.zeros((64, 64), np.uint8), np.ones((64, 64), bool)
    upper, _, _ = change_resolution(plain, codes, valid, 0.25, (0.0, 0.0))
    lower, _, _ = change_resolution(plain, codes, valid, 0.25, (0.999, 0.0))
    assert (upper.min(), upper.max()) == (0, 15)
    assert (lower.min(), lower.max()) == (48, 63)


def test_the_augmenter_draws_the_factor_from_its_range() -> None:
    image, mask, valid = disc(4, 12)
    valid[:], mask[mask == 255] = True, 0
    still = {"horizontal_flip": 0, "vertical_flip": 0, "quarter_turns": 0}
    recipe = Augmentation.model_validate(Augmentation.none().model_dump() | still | {"resolution": (0.7, 0.7)})
    one = Augmenter(recipe)(image, mask, valid, key=(1,))
    # The part that is shown lies somewhere; the disc is larger in it, unless it is cut off.
    assert one.mask.sum() > 0.5 * mask.sum()
    areas = {
        int(Augmenter(Augmentation(resolution=(0.5, 2)))(image, mask, valid, key=(k,)).mask.sum()) for k in range(12)
    }
    assert len(areas) > 6
    with pytest.raises(ValidationError, match="8 times"):
        Augmentation(resolution=(0.05, 1.0))
