from pathlib import Path

import numpy as np
import pytest

from cloud_assets.errors import InvalidRecipe
from cloud_assets.patches.splits import PlaceSplit
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.radar_pairs import backscatter, reflectance_of, write_pairs


def store(folder: Path, groups: tuple[str, ...], splits: tuple[str | None, ...] | None = None) -> PatchStore:
    radar = backscatter(len(groups), 16)
    return write_pairs(folder / "store", radar, reflectance_of(radar), splits or (None,) * len(groups), groups)


def test_two_places_leave_no_validation(tmp_path: Path) -> None:
    pairs = store(tmp_path, ("a", "a", "b", "b"))
    splits = PlaceSplit().split(pairs)
    assert [len(splits.indices(name)) for name in ("train", "validation", "test")] == [2, 0, 2]
    groups = pairs.index["group"].to_numpy()
    assert set(groups[splits.indices("train")]).isdisjoint(groups[splits.indices("test")])


def test_one_place_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe):
        PlaceSplit().split(store(tmp_path, ("a", "a", "a")))


def test_three_places_have_validation(tmp_path: Path) -> None:
    splits = PlaceSplit().split(store(tmp_path, ("a", "b", "c")))
    assert all(len(splits.indices(name)) == 1 for name in ("train", "validation", "test"))


def test_a_list_of_test_patches_is_honoured(tmp_path: Path) -> None:
    groups = ("a", "a", "b", "b", "c", "c", "d", "d")
    official = ("test", None, None, None, None, None, None, None)
    pairs = store(tmp_path, groups, official)
    splits = PlaceSplit().split(pairs)
    np.testing.assert_array_equal(splits.indices("test"), [0])
    used = np.concatenate([splits.indices(name) for name in ("train", "validation", "test")])
    assert 1 not in used  # its place is tested on
    assert len(splits.indices("validation")) > 0
    assert len(used) == 7
