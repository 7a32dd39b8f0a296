"""A batch of the inbox's scenes: every key gets an answer, and two batches never run at once."""

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from cloud_assets.errors import StorageFull
from cloud_assets.scenes.batch import NOT_TRIED, batch_lock, process_inbox
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets_tests.imagery.layouts import write_landsat
from cloud_assets_tests.scenes.fakes import make_bundle, write_geotiff

DN = np.full((4, 64, 64), 9000, np.uint16)


def test_every_scene_has_an_outcome_under_its_key(make_models, tmp_path: Path) -> None:
    make_models()
    for name in ("a.tif", "b.tif"):
        write_geotiff(tmp_path / "in" / name, DN)
    options = SceneOptions(window=64)
    keys = ["b.tif", "../a.tif", "gone.tif", "a.tif"]
    outcomes = process_inbox(
        tmp_path / "in", keys, [make_bundle()], tmp_path / "out", options, instrument="landsat8_l1", tell=print
    )
    found = dict(outcomes)
    assert set(found) == set(keys)
    assert "leads out of the inbox" in found["../a.tif"]
    assert "there is a.tif, b.tif" in found["gone.tif"]
    for key in ("a.tif", "b.tif"):
        products = found[key]
        assert isinstance(products, SceneProducts)
        assert products.directory == tmp_path / "out" / key.removesuffix(".tif")


def test_after_a_full_disk_no_scene_is_tried(make_models, tmp_path: Path) -> None:
    def full(pixels: np.ndarray) -> np.ndarray:
        raise StorageFull("no space left")

    make_models(logits=full)
    for name in ("a.tif", "b.tif", "c.tif"):
        write_geotiff(tmp_path / "in" / name, DN)
    keys = ["a.tif", "b.tif", "c.tif"]
    outcomes = process_inbox(
        tmp_path / "in", keys, [make_bundle()], tmp_path / "out", SceneOptions(window=64), instrument="landsat8_l1",
        tell=print,
    )  # fmt: skip
    assert list(outcomes) == [("a.tif", "no space left"), ("b.tif", NOT_TRIED), ("c.tif", NOT_TRIED)]


def test_a_second_batch_waits_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    batch_lock(tmp_path / "out").parent.mkdir(exist_ok=True)
    first = FileLock(batch_lock(tmp_path / "out"))
    waits = threading.Event()
    outcomes: list[tuple[str, SceneProducts | str]] = []

    def second() -> None:
        options = SceneOptions()
        outcomes.extend(
            process_inbox(tmp_path / "in", ["a.tif"], [], tmp_path / "out", options, tell=lambda said: waits.set())
        )

    with first:
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(timeout=300), "it says that it has to wait"
        assert outcomes == []
    thread.join(timeout=300)
    assert [key for key, _ in outcomes] == ["a.tif"]


def test_a_batch_of_another_machine_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def batch() -> Iterator[tuple[str, SceneProducts | str]]:
        return process_inbox(tmp_path / "in", ["a.tif"], [], tmp_path / "out", SceneOptions(), tell=said.append)

    running = batch()
    next(running)
    # As a container or a machine with the same results folder: its temporary files are its own.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    assert [key for key, _ in batch()] == ["a.tif"]
    assert said == []
    running.close()


def test_a_folder_of_several_scenes_has_the_products_of_each(make_models, tmp_path: Path) -> None:
    make_models()
    bands = {f"B{number}": np.full((40, 50), 0.1 * number) for number in (2, 3, 4, 5)}
    for row in ("028", "029"):
        scene = write_landsat(tmp_path / "apart", bands, name=f"LC09_L1TP_193{row}_20230615_20230615_02_T1")
        shutil.copytree(scene, tmp_path / "in" / "together", dirs_exist_ok=True)
    options = SceneOptions(window=64)
    outcomes = list(
        process_inbox(tmp_path / "in", ["together"], [make_bundle()], tmp_path / "out", options, tell=print)
    )
    assert [key for key, _ in outcomes] == ["together"] * 2
    made = {products.name for _, products in outcomes if isinstance(products, SceneProducts)}
    assert made == {f"LC09_L1TP_193{row}_20230615_20230615_02_T1" for row in ("028", "029")}
    collection = json.loads((tmp_path / "out" / "collection.json").read_text())
    assert len([link for link in collection["links"] if link["rel"] == "item"]) == 2
