"""Atomic writes of files and folders: a reader sees the old version or the new one, never a part. Locks.

Files and folders are written under a temporary name on the same file system and renamed when complete. Replacing a
folder takes two renames; :func:`recover_directory` undoes the first one if the process died between them.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_assets.errors import AlreadyRunning


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that replaces it when the block ends without an error.

    The temporary path keeps the suffix of ``path``; missing parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Makes ``target`` a hard link to a file where the file system allows it, else a copy; replaces what is there."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder that replaces the folder ``path`` when the block ends without an error.

    Missing parent folders are made.
    """
    path = path.resolve()  # what a link leads to is replaced, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_directory(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            path.rename(_previous(path))
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        recover_directory(path)


def recover_directory(path: Path) -> None:
    """Brings back the old version of a folder whose replacement was killed between its two renames."""
    previous = _previous(path)
    if not previous.exists():
        return
    if path.exists():
        shutil.rmtree(previous, ignore_errors=True)
    else:
        previous.rename(path)


@contextmanager
def locked(path: Path, message: str, seconds: float = 0.0) -> Iterator[None]:
    """Holds the lock file ``path``, which the operating system takes back from a killed process.

    Raises:
        AlreadyRunning: With the message, if another process holds it for so many seconds.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path).acquire(timeout=seconds)
    except Timeout as error:
        raise AlreadyRunning(message) from error
    with held:
        yield


def machine_folder() -> Path:
    """The folder of locks that hold back this machine only; in a shared folder they would hold back others too."""
    return Path(tempfile.gettempdir()) / f"cloud-assets-{os.getuid()}"


def _previous(path: Path) -> Path:
    return path.parent / f".{path.name}.previous"
