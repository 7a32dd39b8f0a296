"""A batch of the inbox's scenes: every key gets an answer, and two batches never run at once."""

import threading
from pathlib import Path

import numpy as np
from filelock import FileLock

from cloud_assets.errors import StorageFull
from cloud_assets.scenes.inbox_batch import NOT_TRIED, InboxOutcome, process_inbox
from cloud_assets.scenes.options import SceneOptions
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
    found = {outcome.key: outcome for outcome in outcomes}
    assert set(found) == set(keys)
    assert "leads out of the inbox" in found["../a.tif"].reason
    assert "there is a.tif, b.tif" in found["gone.tif"].reason
    for key in ("a.tif", "b.tif"):
        products = found[key].products
        assert products is not None
        assert products.directory == tmp_path / "out" / key.removesuffix(".tif")
        assert found[key].reason == ""


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
    assert [(outcome.key, outcome.reason) for outcome in outcomes] == [
        ("a.tif", "no space left"),
        ("b.tif", NOT_TRIED),
        ("c.tif", NOT_TRIED),
    ]


def test_a_second_batch_waits_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    first = FileLock(tmp_path / "out" / ".lock")
    waits = threading.Event()
    outcomes: list[InboxOutcome] = []

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
    assert [outcome.key for outcome in outcomes] == ["a.tif"]
