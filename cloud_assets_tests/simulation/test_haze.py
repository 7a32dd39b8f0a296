import numpy as np
import pytest

from cloud_assets.simulation.patch import draw_haze

SHAPE = (128, 96)
DEPTHS = (0.1, 0.4)


def drawn() -> list[np.ndarray]:
    return [draw_haze(np.random.default_rng(seed), SHAPE, DEPTHS) for seed in range(60)]


def test_haze_runs_from_even_to_drifting_by_a_factor_of_two() -> None:
    spreads = [float(haze.std() / haze.mean()) for haze in drawn()]
    assert min(spreads) < 0.03
    assert 0.25 < max(spreads) < 0.45


def test_depth_is_positive_and_typically_within_its_range() -> None:
    for haze in drawn():
        assert haze.dtype == np.float32
        assert haze.min() > 0
        assert DEPTHS[0] <= np.median(haze) * 1.15
        assert np.median(haze) <= DEPTHS[1] * 1.15


def test_haze_has_no_fine_structure() -> None:
    for haze in drawn():
        steps = np.abs(np.diff(haze, axis=1)).mean()
        assert steps < 0.2 * haze.std() + 1e-7


def test_same_source_of_randomness_same_haze() -> None:
    one, other = (draw_haze(np.random.default_rng(3), SHAPE, DEPTHS) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert draw_haze(np.random.default_rng(4), SHAPE, DEPTHS).mean() != pytest.approx(one.mean())
