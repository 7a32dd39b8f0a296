import numpy as np
import pytest
from scipy import ndimage

from cloud_assets.imagery.geometry import distance_within, grow


def spots(seed: int, density: float = 0.003, shape: tuple[int, int] = (130, 170)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < density


@pytest.mark.parametrize("radius", [0, 0.5, 1, 1.5, 5, 7.3, 15, 300])
@pytest.mark.parametrize("seed", range(3))
def test_spots_grow_by_an_exact_disc(radius, seed):
    found = grow(spots(seed), radius)
    expected = ndimage.distance_transform_edt(~spots(seed)) <= radius
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("reach", [1, 4, 13, 200])
@pytest.mark.parametrize("seed", range(3))
def test_distances_are_exact_within_reach(reach, seed):
    found = distance_within(spots(seed), reach)
    expected = ndimage.distance_transform_edt(~spots(seed))
    is_near = expected <= reach
    np.testing.assert_allclose(found[is_near], expected[is_near], rtol=1e-6)
    assert np.isinf(found[~is_near]).all()


def test_no_spot_and_nothing_but_spots():
    empty, full = np.zeros((20, 30), bool), np.ones((20, 30), bool)
    assert not grow(empty, 5).any()
    assert grow(full, 5).all()
    assert np.isinf(distance_within(empty, 5)).all()
    assert (distance_within(full, 5) == 0).all()


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (3, 3)])
def test_narrow_masks(shape):
    mask = spots(0, 0.1, shape)
    expected = ndimage.distance_transform_edt(~mask) <= 4 if mask.any() else mask
    np.testing.assert_array_equal(grow(mask, 4), expected)
