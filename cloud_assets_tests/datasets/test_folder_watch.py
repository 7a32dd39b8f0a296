"""Whether a data folder changed, by names, sizes and times only."""

import os
from pathlib import Path

import pytest

from cloud_assets.datasets.folder_watch import DATA, FolderLook, look_at_data


def counted(look: FolderLook) -> tuple[int, int]:
    """Files and their bytes."""
    return look.states[DATA][:2]


def looks(folder: Path, cursor: str | None, number: int = 1) -> tuple[list[str], str]:
    """What a number of looks told of, and the last cursor."""
    told = []
    for _ in range(number):
        look = look_at_data(folder, cursor)
        cursor = look.cursor
        told += [f"{look.states[key]}-{look.number}" for key in look.ready]
    assert cursor is not None
    return told, cursor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "one.tif").write_bytes(b"1")
    (tmp_path / "data" / "deep" / "two.tif").write_bytes(b"22")
    return tmp_path / "data"


def test_a_state_is_told_of_once_when_it_has_stopped_changing(folder: Path) -> None:
    first = look_at_data(folder, None)
    assert (first.ready, counted(first)) == ((), (2, 3))
    told, cursor = looks(folder, first.cursor, 3)
    assert len(told) == 1
    (folder / "deep" / "three.tif").write_bytes(b"")
    growing, cursor = looks(folder, cursor)
    (folder / "deep" / "three.tif").write_bytes(b"333")
    still_growing, cursor = looks(folder, cursor)
    assert growing + still_growing == []
    told_again, cursor = looks(folder, cursor, 3)
    assert len(told_again) == 1
    assert told_again != told


@pytest.mark.parametrize("change", ["time", "removed", "renamed"])
def test_every_change_counts(folder: Path, change: str) -> None:
    _, cursor = looks(folder, None, 2)
    path = folder / "one.tif"
    if change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "removed":
        path.unlink()
    else:
        path.rename(folder / "deep" / "one.tif")
    assert len(looks(folder, cursor, 2)[0]) == 1


def test_a_state_that_comes_back_is_new_again(folder: Path) -> None:
    told, cursor = looks(folder, None, 2)
    state = (folder / "one.tif").stat()
    (folder / "one.tif").rename(folder.parent / "elsewhere")
    _, cursor = looks(folder, cursor, 2)
    (folder.parent / "elsewhere").rename(folder / "one.tif")
    assert (folder / "one.tif").stat().st_mtime_ns == state.st_mtime_ns
    again, _ = looks(folder, cursor, 2)
    assert len(again) == 1
    assert again != told
    assert again[0].rsplit("-", 1)[0] == told[0].rsplit("-", 1)[0]


def test_a_long_walk_goes_on_in_the_next_look(folder: Path) -> None:
    for number in range(5):
        (folder / f"part{number}").mkdir()
        (folder / f"part{number}" / "file").write_text("x")
    whole = look_at_data(folder, None)
    cursor, look = None, whole
    for _ in range(20):
        look = look_at_data(folder, cursor, seconds=0)
        cursor = look.cursor
        if look.is_complete:
            break
    assert look.is_complete
    assert counted(look) == counted(whole) == (7, 8)
    # The same state, whether it was walked at once or bit by bit.
    assert look_at_data(folder, cursor).ready == (DATA,)


def test_hidden_files_links_and_absent_folders_do_no_harm(folder: Path) -> None:
    _, cursor = looks(folder, None, 2)
    (folder / ".lock").write_text("")
    (folder / "circle").symlink_to(folder)
    look = look_at_data(folder, cursor)
    assert counted(look)[0] == 3  # the link itself
    assert looks(folder / "absent", None, 3)[0] == []


@pytest.mark.parametrize("cursor", ["", "{", "[]", '{"other": 1}', '{"pending": []}'])
def test_a_cursor_of_another_version_starts_anew(folder: Path, cursor: str) -> None:
    assert len(looks(folder, cursor, 2)[0]) == 1
