"""The sensor of the inbox, tick by tick."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.definitions import defs
from cloud_assets.orchestration.jobs import SCENE_JOB
from cloud_assets.orchestration.resources import Folders
from cloud_assets.orchestration.scene_automation import inbox_sensor, neighbours

FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
Tick = Callable[[], dg.SensorResult]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def tick(instance: dg.DagsterInstance, inbox: Path) -> Tick:
    """A tick as the daemon makes it: the cursor is kept, partitions are added."""
    kept: list[str | None] = [None]
    sensor = inbox_sensor

    def evaluate() -> dg.SensorResult:
        context = dg.build_sensor_context(
            instance=instance, cursor=kept[0], resources={"folders": Folders(inbox=str(inbox))}
        )
        found = sensor(context)
        assert isinstance(found, dg.SensorResult)
        kept[0] = found.cursor
        for request in found.dynamic_partitions_requests or ():
            instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        return found

    evaluate.forget = lambda: kept.__setitem__(0, None)  # type: ignore[attr-defined]
    return evaluate


def touch(path: Path) -> None:
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))


def asked_for(found: dg.SensorResult) -> list[tuple[str | None, str | None, str | None]]:
    """Of each run its partition, or the first and the last of several."""
    return [(run.partition_key, run.tags.get(FIRST), run.tags.get(LAST)) for run in found.run_requests or ()]


def test_a_scene_that_grows_is_waited_for(tick: Tick, inbox: Path, instance: dg.DagsterInstance) -> None:
    assert "No scene has arrived" in str(tick().skip_reason)
    scene = inbox / "a.tif"
    scene.write_bytes(b"half of it")
    assert not tick().run_requests
    scene.write_bytes(b"half of it, and the other half")
    assert not tick().run_requests, "it grew since the last look"
    assert instance.get_dynamic_partitions("scenes") == []
    found = tick()
    (run,) = found.run_requests or ()
    assert run.partition_key == "a.tif"
    assert instance.get_dynamic_partitions("scenes") == ["a.tif"]
    assert not tick().run_requests, "asked for once"


def test_the_arrival_is_noted_with_the_raw_scene(tick: Tick, inbox: Path) -> None:
    (inbox / "a.tif").write_bytes(b"x" * 2_000_000)
    tick()
    (event,) = tick().asset_events or ()
    assert isinstance(event, dg.AssetMaterialization)
    assert (event.asset_key.to_user_string(), event.partition) == ("scenes/raw_scenes", "a.tif")
    assert event.metadata["size_mb"].value == 2.0


def test_many_scenes_are_one_run(tick: Tick, inbox: Path, instance: dg.DagsterInstance) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        (inbox / name).write_bytes(b"x")
    tick()
    assert asked_for(tick()) == [(None, "a.tif", "c.tif")]
    assert instance.get_dynamic_partitions("scenes") == ["a.tif", "b.tif", "c.tif"]


def test_a_changed_scene_is_asked_for_again(tick: Tick, inbox: Path) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        (inbox / name).write_bytes(b"x")
    tick()
    tick()
    touch(inbox / "a.tif")
    touch(inbox / "c.tif")
    assert not tick().run_requests, "it may still be growing"
    found = tick()
    assert asked_for(found) == [("a.tif", None, None), ("c.tif", None, None)], "b.tif, between them, is left alone"
    assert not found.dynamic_partitions_requests


def test_a_cursor_that_is_reset_asks_for_all_scenes_again(tick: Tick, inbox: Path) -> None:
    for name in ("a.tif", "b.tif"):
        (inbox / name).write_bytes(b"x")
    tick()
    tick()
    tick.forget()  # type: ignore[attr-defined]
    assert not tick().run_requests
    found = tick()
    assert asked_for(found) == [(None, "a.tif", "b.tif")]
    assert not found.dynamic_partitions_requests


def test_a_name_that_dagster_cannot_take_stops_no_other_scene(tick: Tick, inbox: Path) -> None:
    for name in ("a...b.tif", "a\tb.tif", "good.tif"):
        (inbox / name).write_bytes(b"x")
    tick()
    assert asked_for(tick()) == [("good.tif", None, None)]


def test_runs_are_configured_by_a_file(
    tick: Tick, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scene_products.yaml").write_text(
        "ops: {scenes__scene_products: {config: {instrument: landsat8_l1, validity_buffer_metres: 300.0}}}"
    )
    monkeypatch.setenv("CLOUD_ASSETS_RUN_CONFIGS", str(tmp_path))
    (inbox / "a.tif").write_bytes(b"x")
    tick()
    (run,) = tick().run_requests or ()
    assert run.run_config["ops"]["scenes__scene_products"]["config"]["instrument"] == "landsat8_l1"
    assert dg.validate_run_config(defs.resolve_job_def(SCENE_JOB), run.run_config)


def test_nobody_is_watched_unasked() -> None:
    sensor = defs.get_repository_def().get_sensor_def("inbox")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert sensor.job_name == SCENE_JOB


def test_scenes_that_follow_each_other_share_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_SCENES_A_RUN", "3")
    assert list(neighbours("abcdef", set("abdf"))) == [["a", "b"], ["d"], ["f"]]
    assert [len(group) for group in neighbours("abcdefg", set("abcdefg"))] == [3, 3, 1]
    assert list(neighbours("abc", set())) == []
