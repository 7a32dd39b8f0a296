import errno
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.errors import InvalidData, NoUsablePatches, StorageFull
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.store import PatchStore
from cloud_assets.patches.store_writer import Patch, PatchStoreWriter, StoreOrigin, coverage, role_of
from cloud_assets_tests.patches.conftest import BANDS

SIZE = 32


def writer(directory: Path, minimum_valid: float = 0.2, has_masks: bool = True) -> PatchStoreWriter:
    recipe = PatchRecipe(bands=BANDS, size=SIZE, minimum_valid=minimum_valid)
    role = role_of("landsat8_l1", BANDS, np.uint16, (4, SIZE, SIZE))
    return PatchStoreWriter(directory, recipe, {"images": role}, has_masks, StoreOrigin("tiny", "catalogue", False))


def patches(count: int, seed: int = 0, **fields: Any) -> Iterator[Patch]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        image = rng.integers(1, 60_000, (4, SIZE, SIZE), dtype=np.uint16)
        mask = rng.integers(0, 4, (SIZE, SIZE), dtype=np.uint8)
        name = f"p{number}"
        valid = np.ones((SIZE, SIZE), bool)
        yield Patch(
            **{
                "patch_id": name,
                "scene_id": name,
                "group": name,
                "images": {"images": image},
                "valid": valid,
                "mask": mask,
                **fields,
            }
        )


def write(directory: Path, source: Iterator[Patch]) -> PatchStore:
    with writer(directory) as store:
        for patch in source:
            store.append(patch)
    return PatchStore.open(directory)


@pytest.mark.parametrize("count", [1, 9, 10, 1300])
def test_any_number_of_patches_fits_the_header(tmp_path: Path, count: int) -> None:
    store = write(tmp_path / "s", patches(count))
    assert len(store.index) == len(store.array()) == count
    for row, patch in enumerate(patches(count)):
        if row in (0, count // 2, count - 1):
            np.testing.assert_array_equal(store.array()[row], patch.images["images"])
            np.testing.assert_array_equal(store.masks[row], patch.mask)
    assert list(store.index["patch_id"]) == [f"p{number}" for number in range(count)]


def test_memory_does_not_grow_with_the_number_of_patches(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            write(tmp_path / f"s{count}", patches(count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # imports
    megabytes_of_pixels = 2000 * SIZE * SIZE * 9 / 1e6
    assert (peak(2300) - peak(300)) / 1e6 < megabytes_of_pixels / 8


def test_version_follows_pixels_labels_groups_and_recipe(tmp_path: Path) -> None:
    def version(name: str, **fields: Any) -> str:
        return write(tmp_path / name, patches(3, **fields)).data_version

    same = version("a")
    assert version("b") == same
    assert version("c", seed=1) != same
    assert version("d", group="together") != same
    assert version("e", official_split="test") != same
    assert version("f", mask=np.zeros((SIZE, SIZE), np.uint8)) != same
    assert version("g", source="/another/disk/file.tif") == same


def test_blank_patches_are_counted_not_written(tmp_path: Path) -> None:
    mostly_blank = np.zeros((SIZE, SIZE), bool)
    mostly_blank[:2] = True
    with writer(tmp_path / "s") as store:
        kept = [store.append(patch) for patch in patches(4)]
        dropped = [store.append(patch) for patch in patches(3, valid=mostly_blank, patch_id="blank")]
    assert (kept, dropped) == ([True] * 4, [False] * 3)
    manifest = PatchStore.open(tmp_path / "s").manifest
    assert (manifest.count, manifest.dropped_blank, manifest.dropped_blank_patches) == (4, 3, ("blank",) * 3)


def test_nothing_but_blank_patches_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoUsablePatches, match="3 held less than 20% valid"):
        write(tmp_path / "s", patches(3, valid=np.zeros((SIZE, SIZE), bool)))
    assert not any(tmp_path.iterdir())


def test_pixels_without_data_are_unlabelled(tmp_path: Path) -> None:
    valid = np.ones((SIZE, SIZE), bool)
    valid[:8] = False
    store = write(tmp_path / "s", patches(1, valid=valid))
    assert (store.masks[0, :8] == 255).all()
    assert (store.masks[0, 8:] != 255).all()
    assert store.index["valid_fraction"][0] == 0.75


def test_an_interruption_leaves_the_old_store(tmp_path: Path) -> None:
    old = write(tmp_path / "s", patches(2))

    def interrupted() -> Iterator[Patch]:
        yield from patches(5, seed=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s", interrupted())
    assert PatchStore.open(tmp_path / "s").data_version == old.data_version
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_full_disk_is_said_and_leaves_the_old_store(tmp_path: Path) -> None:
    old = write(tmp_path / "s", patches(2))

    class FullDisk:
        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write_to_full_disk() -> None:
        with writer(tmp_path / "s") as store:
            store._files["masks"] = FullDisk()  # type: ignore[assignment]
            for patch in patches(5, seed=1):
                store.append(patch)

    with pytest.raises(StorageFull, match="disk is full"):
        write_to_full_disk()
    assert PatchStore.open(tmp_path / "s").data_version == old.data_version
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_another_shape_or_type_is_refused(tmp_path: Path) -> None:
    small = {"images": np.ones((4, SIZE, SIZE - 1), np.uint16)}
    bytes_ = {"images": np.ones((4, SIZE, SIZE), np.uint8)}
    for images in (small, bytes_):
        with pytest.raises(InvalidData, match="patch odd: images is"):
            write(tmp_path / "s", patches(1, images=images, patch_id="odd"))


def test_coverage_is_over_labelled_pixels() -> None:
    mask = np.array([[0, 0, 1, 2], [3, 255, 255, 255]], np.uint8)
    assert coverage(mask) == {
        "clear_percentage": 40.0,
        "thick_percentage": 20.0,
        "thin_percentage": 20.0,
        "cloud_shadow_percentage": 20.0,
        "cloud_percentage": 40.0,
    }
    assert np.isnan(list(coverage(np.full((2, 2), 255, np.uint8)).values())).all()
