import numpy as np
import pytest

from cloud_assets.errors import InvalidRecipe
from cloud_assets.imagery.tiling import Axis, Window

LENGTHS = [1, 2, 31, 32, 33, 100, 127, 129, 1000]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("size", "overlap"), [(32, 0), (64, 8), (64, 33), (128, 127), (96, 31)])
def test_weights_of_all_windows_add_up_to_one_at_each_pixel(length, size, overlap):
    axis = Axis.plan(length, size, overlap, multiple=8, fixed=False)
    total = np.zeros(axis.starts[-1] + axis.size - axis.starts[0])
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert (weights >= 0).all()
        total[start - axis.starts[0] :][: axis.size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("size", "overlap"), [(32, 0), (64, 8), (128, 127), (96, 31)])
def test_windows_cover_the_scene_and_its_margin_and_become_final_exactly_once(length, size, overlap):
    axis = Axis.plan(length, size, overlap, multiple=8, fixed=False)
    assert axis.starts[0] <= -(overlap // 2) + 0
    assert axis.starts[-1] + axis.size >= length + overlap // 2
    assert axis.size <= size
    overlaps = [left + axis.size - right for left, right in zip(axis.starts, axis.starts[1:], strict=False)]
    assert all(found >= overlap - 1 for found in overlaps)
    finals = [axis.final(index) for index in range(len(axis.starts))]
    assert [pixel for final in finals for pixel in range(final.start, final.stop)] == list(range(length))


def test_windows_shrink_to_what_the_scene_needs_unless_the_network_takes_one_size_only():
    assert Axis.plan(100, 1024, 32, multiple=32, fixed=False).size == 160
    assert Axis.plan(100, 1024, 32, multiple=32, fixed=True).size == 1024


def test_windows_fill_the_grid_that_a_network_works_on():
    axis = Axis.plan(2048, 768, 32, multiple=4, grid=128 / 3, fixed=False)
    assert (axis.size, len(axis.starts)) == (724, 3)  # 17 cells of the grid, whole blocks of 4
    assert Axis.plan(2048, 768, 32, multiple=4, fixed=False).size == 716
    assert Axis.plan(1000, 130, 127, multiple=128, fixed=False).size == 130  # not one pixel further each time


def test_inner_pixels_have_one_window_with_weight_one():
    axis = Axis.plan(1000, 128, 16, multiple=8, fixed=True)
    assert (axis.weights[3][30:-30] == 1).all()


@pytest.mark.parametrize(("length", "size", "overlap"), [(0, 64, 8), (10, 64, 64), (10, 64, -1), (10, 0, 0)])
def test_impossible_windows_are_refused(length, size, overlap):
    with pytest.raises(InvalidRecipe, match="larger than the overlap"):
        Axis.plan(length, size, overlap, multiple=8, fixed=False)


def test_what_lies_outside_is_the_scene_mirrored_at_its_border():
    scene = np.arange(12).reshape(1, 3, 4)
    window = Window(-2, 2, 6, 5)
    inside = window.inside(3, 4)
    assert inside == Window(0, 2, 3, 2)
    mirrored = window.mirrored(scene[:, *inside.slices], inside)
    assert mirrored.shape == (1, 6, 5)
    np.testing.assert_array_equal(mirrored[0, :, 0], [10, 6, 2, 6, 10, 6])
    np.testing.assert_array_equal(mirrored[0, 2], [2, 3, 2, 3, 2])
