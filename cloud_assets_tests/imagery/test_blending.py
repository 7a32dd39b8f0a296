import itertools
import math

import numpy as np
import pytest

from cloud_assets.imagery.tiling import SeamBlender, Tiling

SHAPES = [(1, 1), (7, 300), (64, 64), (65, 129), (200, 150), (311, 97)]
GRIDS = [(64, 16), (64, 0), (48, 33), (40, 37)]


def blend(scene: np.ndarray, tiling: Tiling, skip=(), strip: float = math.inf) -> np.ndarray:
    """Cuts a scene into windows, blends them again, and puts the finished parts where they belong."""
    height, width = scene.shape[1:]
    result = np.full(scene.shape, np.nan, np.float32)
    written = np.zeros((height, width), int)
    blender = SeamBlender(tiling)
    for position in tiling.positions(strip):
        window = tiling.window(position)
        inside = window.inside(height, width)
        values = window.mirrored(scene[:, *inside.slices], inside).astype(np.float32)
        finished = blender.add(position, None if position in skip else values)
        final = tiling.final(position)
        written[final.slices] += 1
        if finished is not None:
            assert finished.shape == (len(scene), final.height, final.width)
            result[:, *final.slices] = finished
    assert (written == 1).all()
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "overlap"), GRIDS)
def test_identity_reconstructs_every_digital_number(shape, size, overlap):
    scene = np.random.default_rng(0).integers(0, 65536, (2, *shape)).astype(np.float32)
    blended = blend(scene, Tiling.plan(*shape, size, overlap, multiple=8))
    np.testing.assert_array_equal(np.rint(blended), scene)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "overlap"), GRIDS)
def test_constant_stays_constant_without_seams(shape, size, overlap):
    blended = blend(np.full((1, *shape), 0.7, np.float32), Tiling.plan(*shape, size, overlap, multiple=8))
    assert np.abs(blended - 0.7).max() < 3e-7


@pytest.mark.parametrize("strip", [1, 64, 130, 200, 1000])
def test_strips_give_the_same_to_the_last_bit(strip):
    scene = np.random.default_rng(1).random((2, 311, 297), np.float32)
    tiling = Tiling.plan(311, 297, 64, 16, multiple=8)
    skip = [(1, 1), (2, 2), (2, 3)]
    np.testing.assert_array_equal(blend(scene, tiling, skip, strip), blend(scene, tiling, skip))


def test_a_strip_is_no_wider_than_asked_and_left_for_good():
    tiling = Tiling.plan(150, 700, 64, 16, multiple=8)
    positions = list(tiling.positions(200))
    assert sorted(positions) == list(tiling.positions())
    heads = [place for place, (row, _) in enumerate(positions) if row == 0 and positions[place - 1][0] != 0]
    assert len(heads) > 2
    for first, last in itertools.pairwise([*heads, len(positions)]):
        columns = {column for _, column in positions[first:last]}
        starts = [tiling.horizontal.starts[column] for column in sorted(columns)]
        assert starts[-1] + tiling.horizontal.size - starts[0] <= 200
        assert len(columns) * len(tiling.vertical.starts) == last - first


def test_two_disagreeing_windows_meet_in_a_smooth_rise():
    tiling = Tiling.plan(64, 96, 64, 16, multiple=8)
    assert len(tiling.horizontal.starts) == 2
    blender = SeamBlender(tiling)
    first = blender.add((0, 0), np.zeros((1, tiling.vertical.size, tiling.horizontal.size), np.float32))
    second = blender.add((0, 1), np.ones((1, tiling.vertical.size, tiling.horizontal.size), np.float32))
    row = np.concatenate([first[0, 10], second[0, 10]])
    assert len(row) == 96
    assert row[0] == 0
    assert row[-1] == 1
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 0.12


def test_a_window_without_values_leaves_its_neighbours_share():
    """The pixels only it covers stay unset; those that others cover too get what the others gave, by weight."""
    tiling = Tiling.plan(200, 200, 64, 16, multiple=8)
    scene = np.ones((1, 200, 200), np.float32)
    whole = blend(scene, tiling)
    holed = blend(scene, tiling, skip={(1, 1)})
    np.testing.assert_allclose(whole, 1, atol=1e-6)
    window = tiling.window((1, 1))
    outside = np.ones((200, 200), bool)
    outside[window.slices] = False
    np.testing.assert_array_equal(holed[0, outside], whole[0, outside])
    middle = slice(window.row + 28, window.row + 34), slice(window.column + 28, window.column + 34)
    assert (holed[0][middle] == 0).all()


def test_all_windows_without_values_give_nothing():
    tiling = Tiling.plan(100, 100, 64, 16, multiple=8)
    blender = SeamBlender(tiling)
    assert all(blender.add(position, None) is None for position in tiling.positions())


def test_memory_does_not_grow_with_the_scenes_height():
    def kept(height: int) -> int:
        tiling = Tiling.plan(height, 200, 64, 16, multiple=8, fixed=True)
        blender = SeamBlender(tiling)
        values = np.ones((1, 64, 64), np.float32)
        most = 0
        for position in tiling.positions():
            blender.add(position, values)
            most = max(most, sum(a.nbytes for a in (*blender._right.values(), blender._below) if a is not None))
        return most

    assert kept(4000) <= kept(400)
