"""Where assets lie, and that a killed run never leaves half of one."""

import json
from pathlib import Path
from typing import Self

import dagster as dg
import pytest
from upath import UPath

from cloud_assets.errors import DataNotFound
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


@pytest.fixture(params=["folder", "object store"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> AssetFolders:
    home = UPath(tmp_path / "home") if request.param == "folder" else UPath(f"memory://bucket/{tmp_path.name}")
    return AssetFolders(home, tmp_path / "cache")


def write(manager: AssetFolders, text: str) -> None:
    context = dg.build_output_context(asset_key=["task", "note"])
    manager.handle_output(context, Note(text))


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


def test_only_domain_objects_are_kept(manager: AssetFolders) -> None:
    context = dg.build_output_context(asset_key=["task", "note"])
    with pytest.raises(TypeError, match="save and open"):
        manager.handle_output(context, {"a": 1})
