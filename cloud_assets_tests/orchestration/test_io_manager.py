"""Where assets lie, and that a killed run never leaves half of one."""

import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import dagster as dg
import pytest
from moto.server import ThreadedMotoServer
from upath import UPath

from cloud_assets.errors import DataNotFound, InvalidData
from cloud_assets.orchestration.resources import POINTER_FILE, AssetFolders


class Note:
    """A domain object of two files, one in a folder of its own."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, directory: Path) -> None:
        (directory / "deep").mkdir(parents=True)
        (directory / "deep" / "first.txt").write_text(self.text)
        if self.text == "interrupted":
            raise KeyboardInterrupt
        (directory / "second.txt").write_text(self.text)

    @classmethod
    def open(cls, directory: Path) -> Self:
        first, second = (directory / "deep" / "first.txt").read_text(), (directory / "second.txt").read_text()
        assert first == second
        return cls(first)


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], UPath]]:
    """Opens a bucket as another process would: with a client of its own that remembers what it has listed."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    access = {"key": "any", "secret": "any", "endpoint_url": address}
    UPath("s3://bucket", **access).mkdir()
    yield lambda: UPath("s3://bucket", **access, config_kwargs={"user_agent_extra": uuid.uuid4().hex})
    server.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> AssetFolders:
    if request.param == "s3":
        home = request.getfixturevalue("s3")() / tmp_path.name
    else:
        home = UPath(tmp_path / "home") if request.param == "folder" else UPath(f"memory://bucket/{tmp_path.name}")
    return AssetFolders(home, tmp_path / "cache")


def write(manager: AssetFolders, text: str) -> None:
    context = dg.build_output_context(asset_key=["task", "note"])
    manager.handle_output(context, Note(text))


def once_during(monkeypatch: pytest.MonkeyPatch, home: UPath, method: str, call: int, act: Callable[[], None]) -> None:
    """Has something happen just before a client's n-th call of one method."""
    original, calls = getattr(home.fs, method), itertools.count(1)

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == call:
            act()
        return original(*arguments)

    monkeypatch.setattr(home.fs, method, interrupted)


def read(manager: AssetFolders, key: tuple[str, ...] = ("task", "note")) -> str:
    upstream = dg.build_output_context(asset_key=list(key))
    dagster_type = dg.PythonObjectDagsterType(Note)
    context = dg.build_input_context(asset_key=list(key), upstream_output=upstream, dagster_type=dagster_type)
    note = manager.load_input(context)
    assert isinstance(note, Note)
    return note.text


def test_what_is_written_is_read(manager: AssetFolders) -> None:
    for text in ("one", "two", "three"):
        write(manager, text)
        assert read(manager) == text


def test_an_interrupted_write_leaves_the_old_version(manager: AssetFolders) -> None:
    write(manager, "old")
    with pytest.raises(KeyboardInterrupt):
        write(manager, "interrupted")
    assert read(manager) == "old"
    write(manager, "new")
    assert read(manager) == "new"


def test_a_missing_asset_is_named(manager: AssetFolders) -> None:
    with pytest.raises(DataNotFound, match="task/absent"):
        read(manager, ("task", "absent"))


def test_an_optional_input_may_be_missing(manager: AssetFolders) -> None:
    write(manager, "one")

    @dg.asset(ins={"note": dg.AssetIn(["task", "note"], dagster_type=Note | None)})
    def reader(note: Note | None, **other: Note | None) -> None:
        assert note is not None
        assert note.text == "one"

    @dg.asset(ins={"absent": dg.AssetIn(["task", "absent"], dagster_type=Note | None)})
    def lenient(**inputs: Note | None) -> None:
        assert inputs == {"absent": None}

    specs = [dg.AssetSpec(["task", name]) for name in ("note", "absent")]
    assert dg.materialize([reader, lenient, *specs], resources={"io_manager": manager}).success


def test_the_folder_is_the_asset_key(tmp_path: Path) -> None:
    write(AssetFolders(UPath(tmp_path), tmp_path / "cache"), "one")
    assert sorted(path.name for path in (tmp_path / "task" / "note").iterdir()) == ["deep", "second.txt"]
    assert [path.name for path in (tmp_path / "task").iterdir()] == ["note"]


def test_an_object_store_keeps_the_version_before(tmp_path: Path) -> None:
    home = UPath(f"memory://bucket/{tmp_path.name}")
    manager = AssetFolders(home, tmp_path / "cache")
    for text in ("one", "two", "three"):
        write(manager, text)
    place = home / "task" / "note"
    current = json.loads((place / POINTER_FILE).read_text())["version"]
    versions = {path.name for path in place.iterdir() if path.is_dir()}
    assert current in versions
    assert len(versions) == 2


def test_two_writers_leave_each_other_alone(
    s3: Callable[[], UPath], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [s3() / tmp_path.name for _ in range(3)]
    first, second, reader = (AssetFolders(home, tmp_path / str(number)) for number, home in enumerate(homes))
    write(second, "before")
    once_during(monkeypatch, homes[0], "put_file", 2, lambda: write(second, "the second writer's"))
    write(first, "the first writer's")
    assert read(reader) == "the first writer's"
    write(second, "after")
    assert read(reader) == "after"


def test_two_steps_of_one_machine_leave_each_other_alone(
    s3: Callable[[], UPath], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [s3() / tmp_path.name for _ in range(2)]
    first, second = (AssetFolders(home, tmp_path / "cache") for home in homes)
    once_during(monkeypatch, homes[0], "put_file", 2, lambda: write(second, "the second step's"))
    write(first, "the first step's")
    assert read(second) == "the first step's"
    assert [path.name for path in (tmp_path / "cache").iterdir() if "upload" in path.name] == []


def test_a_reader_finds_what_other_processes_wrote(s3: Callable[[], UPath], tmp_path: Path) -> None:
    home = s3() / tmp_path.name
    here, there = AssetFolders(home, tmp_path / "here"), AssetFolders(s3() / tmp_path.name, tmp_path / "there")
    (home / "task" / "note" / "by_hand.txt").write_text("")
    assert [path.name for path in (home / "task" / "note").iterdir()] == ["by_hand.txt"]
    write(there, "theirs")
    found = here.find(["task", "note"], Note)
    assert found is not None
    assert found.text == "theirs"


def test_a_reader_takes_the_newest_version_when_its_own_is_removed(
    s3: Callable[[], UPath], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = s3() / tmp_path.name
    reader, writer = AssetFolders(home, tmp_path / "reader"), AssetFolders(s3() / tmp_path.name, tmp_path / "writer")
    write(writer, "one")
    once_during(monkeypatch, home, "get_file", 2, lambda: [write(writer, text) for text in ("two", "three")])
    assert read(reader) == "three"


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_damaged_version_is_refused(s3: Callable[[], UPath], tmp_path: Path, damage: str) -> None:
    home = s3() / tmp_path.name
    write(AssetFolders(home, tmp_path / "writer"), "one")
    (file,) = (found for found in home.fs.find((home / "task").path) if found.endswith("second.txt"))
    if damage == "gone":
        home.fs.rm(file)
    else:
        home.fs.pipe_file(file, b"o")
    with pytest.raises(InvalidData, match=r"second\.txt is gone or has not the 3 bytes"):
        read(AssetFolders(home, tmp_path / "reader"))


def test_versions_whose_pointer_has_no_list_are_read(s3: Callable[[], UPath], tmp_path: Path) -> None:
    home = s3() / tmp_path.name
    write(AssetFolders(home, tmp_path / "writer"), "one")
    pointer = home / "task" / "note" / POINTER_FILE
    pointer.write_text(json.dumps({"version": json.loads(pointer.read_text())["version"]}))
    assert read(AssetFolders(home, tmp_path / "reader")) == "one"


def test_what_killed_uploads_left_in_the_store_is_removed_when_it_is_old(tmp_path: Path) -> None:
    place = UPath(f"memory://bucket/{tmp_path.name}/task/note")
    long_ago, just_now = (f"{when:%Y%m%dT%H%M%S}-{uuid.uuid4().hex}" for when in (datetime(2020, 1, 1), datetime.now()))
    for name in (long_ago, just_now, "somebody's"):
        (place / name).mkdir(parents=True)
        (place / name / "first.txt").write_text("half")
    manager = AssetFolders(place.parent.parent, tmp_path / "cache")
    write(manager, "one")
    assert {just_now, "somebody's"} <= {path.name for path in place.iterdir()}
    assert long_ago not in {path.name for path in place.iterdir()}
    assert read(manager) == "one"


def test_local_copies_that_are_long_unused_are_removed(tmp_path: Path) -> None:
    home, cache = UPath(f"memory://bucket/{tmp_path.name}"), tmp_path / "cache"
    manager = AssetFolders(home, cache)
    write(manager, "old")
    assert read(manager) == "old"
    write(manager, "new")
    assert read(manager) == "new"
    (cache / ".upload-killed").mkdir()
    for path in cache.iterdir():
        os.utime(path, (0, 0))
    assert read(manager) == "new"
    write(manager, "newest")
    (kept,) = (path for path in cache.iterdir() if path.suffix != ".lock")
    assert (kept / "second.txt").read_text() == "new"


def test_only_domain_objects_are_kept(manager: AssetFolders) -> None:
    context = dg.build_output_context(asset_key=["task", "note"])
    with pytest.raises(TypeError, match="save and open"):
        manager.handle_output(context, {"a": 1})
