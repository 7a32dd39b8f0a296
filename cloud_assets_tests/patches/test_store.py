import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.errors import InvalidData
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.patches.conftest import BANDS


@pytest.fixture
def store(coverage_store: Callable[..., PatchStore]) -> PatchStore:
    return coverage_store(["clear", "thick thin", "clear shadow"])


def test_arrays_come_back_as_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(1, 60_000, (5, 4, 12, 9), dtype=np.uint16)
    masks = rng.integers(0, 4, (5, 12, 9), dtype=np.uint8)
    written = store_arrays(tmp_path / "s", images, masks, bands=BANDS, instrument="landsat8_l1")
    opened = PatchStore.open(tmp_path / "s")
    np.testing.assert_array_equal(opened.array(), images)
    np.testing.assert_array_equal(opened.masks, masks)
    assert opened.data_version == written.data_version
    assert opened.roles["images"].bands == BANDS
    assert not opened.array().flags.writeable


def test_a_store_without_truth_has_no_masks(tmp_path: Path) -> None:
    images = np.ones((2, 3, 8, 8), np.uint8)
    store = store_arrays(
        tmp_path / "s", images, bands=("red", "green", "blue"), instrument="rgb_8bit", labels=["a", "b"]
    )
    assert not store.has_masks
    assert list(store.index["label"]) == ["a", "b"]
    assert store.index["cloud_percentage"].isna().all()
    with pytest.raises(InvalidData, match="holds no 'masks'"):
        store.array("masks")


def test_saving_links_the_same_content(store: PatchStore, tmp_path: Path) -> None:
    store.save(tmp_path / "copy")
    copy = PatchStore.open(tmp_path / "copy")
    assert copy.data_version == store.data_version
    np.testing.assert_array_equal(copy.array(), store.array())
    assert (tmp_path / "copy" / "images.npy").stat().st_ino == (store.directory / "images.npy").stat().st_ino
    store.save(tmp_path / "copy")  # again, over the first
    assert len(PatchStore.open(tmp_path / "copy").index) == 3


def test_saving_copies_where_links_are_impossible(
    store: PatchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr("os.link", no_link)
    store.save(tmp_path / "copy")
    np.testing.assert_array_equal(PatchStore.open(tmp_path / "copy").array(), store.array())


def test_worker_processes_get_a_path_not_the_pixels(store: PatchStore) -> None:
    store.array()
    handed_over = pickle.dumps(store)
    assert len(handed_over) < 1000
    np.testing.assert_array_equal(pickle.loads(handed_over).array(), store.array())


def test_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no patch store"):
        PatchStore.open(tmp_path)


def test_a_truncated_array_is_found_at_opening(store: PatchStore) -> None:
    path = store.directory / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InvalidData, match=r"images\.npy is missing or truncated"):
        PatchStore.open(store.directory)


def test_a_missing_array_is_found_at_opening(store: PatchStore) -> None:
    (store.directory / "masks.npy").unlink()
    with pytest.raises(InvalidData, match=r"masks\.npy is missing"):
        PatchStore.open(store.directory)


def test_parts_of_different_stores_are_found(store: PatchStore, coverage_store: Callable[..., PatchStore]) -> None:
    other = coverage_store(["clear", "thick"])
    (other.directory / "masks.npy").rename(store.directory / "masks.npy")
    with pytest.raises(InvalidData, match=r"\(2, 8, 8\), the manifest says uint8 \(3, 8, 8\)"):
        PatchStore.open(store.directory)
    (other.directory / "index.parquet").rename(store.directory / "index.parquet")
    with pytest.raises(InvalidData, match="2 rows for 3 patches"):
        _ = store.index


def test_a_damaged_manifest_is_said(store: PatchStore) -> None:
    manifest = json.loads((store.directory / "store.json").read_text())
    del manifest["roles"]
    (store.directory / "store.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidData, match=r"store\.json is damaged"):
        PatchStore.open(store.directory)


def test_pickled_arrays_are_refused(store: PatchStore) -> None:
    np.save(store.directory / "images.npy", np.array([{"run": "me"}]), allow_pickle=True)
    with pytest.raises(InvalidData):
        PatchStore.open(store.directory)


def test_summary_counts(store: PatchStore) -> None:
    summary = store.summary()
    assert (summary["patches"], summary["groups"]) == (3, 3)
    assert summary["mean_coverage"]["cloud_percentage"] == pytest.approx(100 / 3, abs=0.01)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    images = np.ones((2, 4, 8, 8), np.uint16)
    with pytest.raises(InvalidData, match="3 bands"):
        store_arrays(tmp_path / "s", images, bands=BANDS[:3], instrument="landsat8_l1")
    with pytest.raises(InvalidData, match="do not fit"):
        store_arrays(tmp_path / "s", images, np.zeros((2, 8, 9), np.uint8), bands=BANDS, instrument="landsat8_l1")
