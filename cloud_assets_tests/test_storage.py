"""Atomic writes: the old version or the new one, whatever happens in between."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cloud_assets.storage import atomic_directory, atomic_file, recover_directory


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def fill(folder: Path, text: str) -> None:
    """Replaces the folder by one that holds two files."""
    with atomic_directory(folder) as temporary:
        for name in ("one", "two"):
            (temporary / name).write_text(text)


def read(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.iterdir()}


def die(code: str, *arguments: object) -> None:
    """Runs code in a process that kills itself with SIGKILL."""
    script = "import os, signal, sys; from pathlib import Path; from cloud_assets.storage import *\n" + code
    run = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode == -9, run.stderr


def test_a_file_is_replaced_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    with atomic_file(path) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o444 == 0o444
    assert leftovers(path.parent) == []


@pytest.mark.parametrize("error", [ValueError("broken"), OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_the_old_version_stays_on_any_error(tmp_path: Path, error: BaseException) -> None:
    path, folder = tmp_path / "file", tmp_path / "folder"
    path.write_text("old")
    fill(folder, "old")

    def break_file() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise error

    def break_folder() -> None:
        with atomic_directory(folder) as temporary:
            (temporary / "one").write_text("half")
            raise error

    for broken in (break_file, break_folder):
        with pytest.raises(type(error)):
            broken()
    assert path.read_text() == "old"
    assert read(folder) == {"old"}
    assert leftovers(tmp_path) == []


def test_the_old_version_stays_when_the_disk_refuses_the_bytes(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "old")
    (tmp_path / "file").write_text("old")
    code = """
import resource, signal, sys
from pathlib import Path
from cloud_assets.storage import atomic_directory, atomic_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for attempt in ("file", "folder"):
    try:
        if attempt == "file":
            with atomic_file(Path(sys.argv[1], "file")) as temporary:
                temporary.write_bytes(bytes(200_000))
        else:
            with atomic_directory(Path(sys.argv[1], "folder")) as temporary:
                (temporary / "one").write_bytes(bytes(200_000))
    except OSError:
        continue
    sys.exit("the limit did not work")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert read(tmp_path / "folder") == {"old"}
    assert (tmp_path / "file").read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    fill(folder, "old")
    (folder / "extra").write_text("old")
    fill(folder, "new")
    assert read(folder) == {"new"}
    assert leftovers(folder.parent) == []
    assert folder.stat().st_mode & 0o555 == 0o555


def test_a_kill_while_writing_leaves_the_old_version(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    fill(folder, "old")
    die(
        "with atomic_directory(Path(sys.argv[1])) as temporary:\n"
        "    (temporary / 'one').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
        folder,
    )
    assert read(folder) == {"old"}
    fill(folder, "new")
    assert read(folder) == {"new"}


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_kill_around_each_rename_loses_neither_version(tmp_path: Path, survived: int) -> None:
    folder = tmp_path / "folder"
    fill(folder, "old")
    die(
        "done, rename = [], Path.rename\n"
        "def counted(self, target):\n"
        "    if len(done) == int(sys.argv[2]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    done.append(target)\n"
        "    return rename(self, target)\n"
        "Path.rename = counted\n"
        "import shutil; shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with atomic_directory(Path(sys.argv[1])) as temporary:\n"
        "    for name in ('one', 'two'):\n"
        "        (temporary / name).write_text('new')\n",
        folder,
        survived,
    )
    recover_directory(folder)
    assert read(folder) == ({"new"} if survived == 2 else {"old"})
    fill(folder, "newest")
    assert read(folder) == {"newest"}


def test_an_error_of_the_second_rename_brings_the_old_version_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    fill(folder, "old")
    rename, calls = Path.rename, []

    def refused(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="Input/output"):
        fill(folder, "new")
    assert read(folder) == {"old"}
    assert leftovers(tmp_path) == []


def test_readers_see_only_whole_files_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0" * 100_000)
    seen, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            data = path.read_bytes()
            seen.append(len(data) == 100_000 and len(set(data)) == 1)

    reader = threading.Thread(target=watch)
    reader.start()
    for number in range(60):
        with atomic_file(path) as temporary:
            temporary.write_bytes(str(number % 10).encode() * 100_000)
    stop.set()
    reader.join()
    assert seen
    assert all(seen)
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
