import numpy as np
import pytest

from cloud_assets.patches.cutting import resize, resize_codes

EVERYWHERE = np.ones((40, 60), bool)


def test_same_size_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, EVERYWHERE, (40, 60), 0), image)
    codes = image[0]
    np.testing.assert_array_equal(resize_codes(codes, (40, 60)), codes)


@pytest.mark.parametrize("size", [(10, 15), (13, 47), (90, 130)])
def test_a_ramp_stays_a_ramp(size: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.linspace(0, 6000, 60, dtype=np.float32), (1, 40, 60))
    resized = resize(ramp, EVERYWHERE, size, 0)
    assert resized.dtype == np.float32
    positions = (np.arange(size[1]) + 0.5) * 60 / size[1] - 0.5
    inner = slice(2, -2)
    np.testing.assert_allclose(resized[0, size[0] // 2, inner], (positions * 6000 / 59)[inner], rtol=0.02, atol=3)


def test_shrinking_averages_all_pixels() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (1, 40, 60)).astype(np.float32)
    resized = resize(noise, EVERYWHERE, (4, 6), 0)
    assert resized.mean() == pytest.approx(noise.mean(), abs=1)
    assert resized.std() < 3


def test_nodata_does_not_bleed() -> None:
    image = np.full((2, 40, 60), 500, np.uint16)
    valid = EVERYWHERE.copy()
    valid[:, :31] = False
    image[:, ~valid] = 9
    resized = resize(image, valid, (20, 30), 0)
    assert set(np.unique(resized)) == {0, 500}
    assert not resized[:, :, :15].any()
    assert (resized[:, :, 17:] == 500).all()


def test_codes_are_picked_not_mixed() -> None:
    codes = np.zeros((40, 60), np.uint8)
    codes[:, 30:] = 255
    resized = resize_codes(codes, (20, 20))
    assert (resized[:, :10] == 0).all()
    assert (resized[:, 10:] == 255).all()
