import numpy as np
import pytest

from cloud_assets.families.translation.gap_filling import ColourMatch, spread
from cloud_assets.imagery.tiling import Window

HEIGHT, WIDTH = 300, 260
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
CLOUD = (ROWS - 150) ** 2 + (COLUMNS - 130) ** 2 < 60**2


@pytest.fixture(scope="module")
def truth():
    detail = np.random.default_rng(0).normal(0, 0.02, (1, HEIGHT, WIDTH))
    trend = [0.1 + 0.05 * np.sin(COLUMNS / 40), 0.2 + 0.1 * ROWS / HEIGHT]
    return (np.stack(trend) + detail).astype(np.float32)


def fill(truth, predicted, is_clear=~CLOUD):
    match = ColourMatch(HEIGHT, WIDTH, len(truth))
    for row in range(0, HEIGHT, 90):
        for column in range(0, WIDTH, 70):
            window = Window(row, column, 90, 70).inside(HEIGHT, WIDTH)
            match.add(window, truth[:, *window.slices], predicted[:, *window.slices], is_clear[window.slices])
    is_matched = match.fit()
    return is_matched, match.correct(Window(0, 0, HEIGHT, WIDTH), predicted)


def error(found, truth):
    return float(np.sqrt(np.mean((found - truth)[:, CLOUD] ** 2)))


def test_a_prediction_with_wrong_gain_offset_and_drift_is_brought_to_the_surroundings(truth):
    drift = 0.02 * np.sin(ROWS / 100)
    is_matched, found = fill(truth, (0.5 * truth + 0.3 + drift).astype(np.float32))
    assert is_matched
    assert error(found, truth) < 0.004


def test_a_prediction_of_pure_noise_does_no_harm(truth):
    noise = np.random.default_rng(1).normal(0.3, 0.1, truth.shape).astype(np.float32)
    _, from_noise = fill(truth, noise)
    _, interpolated = fill(truth, np.zeros_like(truth))
    assert error(from_noise, truth) < 1.05 * error(interpolated, truth)
    assert error(interpolated, truth) < 0.03


def test_without_a_clear_pixel_the_prediction_stays_as_it_is(truth):
    is_matched, found = fill(truth, truth, is_clear=np.zeros_like(CLOUD))
    assert not is_matched
    np.testing.assert_array_equal(found, truth)


def test_the_correction_of_a_part_is_that_of_the_whole(truth):
    match = ColourMatch(HEIGHT, WIDTH, 2)
    match.add(Window(0, 0, HEIGHT, WIDTH), truth, 0.5 * truth, ~CLOUD)
    match.fit()
    whole = match.correct(Window(0, 0, HEIGHT, WIDTH), truth)
    part = Window(37, 101, 90, 83)
    np.testing.assert_allclose(match.correct(part, truth[:, *part.slices]), whole[:, *part.slices], atol=1e-6)


def test_spreading_keeps_what_is_known_and_stays_within_its_range():
    values = np.random.default_rng(0).uniform(0.2, 0.6, (1, 37, 53)).astype(np.float32)
    weights = np.ones((37, 53), np.float32)
    weights[5:30, 8:45] = 0
    found = spread(values, weights)
    np.testing.assert_array_equal(found[:, weights > 0], values[:, weights > 0])
    assert found.min() >= 0.2
    assert found.max() <= 0.6


def test_spreading_a_plane_fills_it_about_as_it_was():
    rows, columns = np.mgrid[:64, :64]
    plane = (0.01 * rows + 0.02 * columns).astype(np.float32)[np.newaxis]
    weights = np.ones((64, 64), np.float32)
    weights[24:40, 24:40] = 0
    assert np.abs(spread(np.where(weights > 0, plane, 0), weights) - plane).max() < 0.1
