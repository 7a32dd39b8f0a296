"""Whether a folder of data has changed, found by looking at names, sizes and times only."""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_MODULUS = 2**64


@dataclass(frozen=True)
class FolderLook:
    """What one look at a folder found."""

    arrived: str | None
    """Identifies the folder's state if it is another than the one that was told of last, and has stopped changing."""
    files: int
    """Files seen so far in this walk."""
    bytes: int
    """Their size."""
    cursor: str
    """To be given to the next look."""
    is_complete: bool
    """False if time ran out; the next look goes on there."""


@dataclass
class _Memory:
    """What a look remembers for the next one."""

    pending: list[str] | None = None
    """Folders that this walk has still to enter; None between walks."""
    digest: int = 0
    files: int = 0
    bytes: int = 0
    seen: str = ""
    """State at the end of the last walk."""
    told: str = ""
    """State that was told of last."""
    number: int = 0
    """How many states were told of."""


def look_at(folder: Path, cursor: str | None, seconds: float = 10.0) -> FolderLook:
    """Looks whether the files in a folder, at any depth, are others than before.

    A new state counts when two walks in a row find it: nothing is told of data that are still being copied. A walk
    that takes longer than a look goes on in the next one, folder by folder. Hidden files are left out.

    Args:
        folder: The folder. A missing one is an empty one.
        cursor: What the last look returned; None at the first.
        seconds: After this long the look ends, at the end of the folder that it is in.

    Returns:
        What was found.
    """
    until = time.monotonic() + seconds
    memory = _read(cursor)
    if memory.pending is None:
        memory.pending, memory.digest, memory.files, memory.bytes = [""], 0, 0, 0
    pending = memory.pending
    # One folder at least, or a slow file system would keep the walk from ever ending.
    _enter(folder, pending.pop(), memory, pending)
    while pending and time.monotonic() < until:
        _enter(folder, pending.pop(), memory, pending)
    files, size = memory.files, memory.bytes
    if pending:
        return FolderLook(None, files, size, json.dumps(asdict(memory)), is_complete=False)
    state = f"{files}-{size}-{memory.digest:016x}"
    arrived = None
    if files and state == memory.seen != memory.told:
        memory.told, memory.number = state, memory.number + 1
        # The number tells a state apart that comes back after another one.
        arrived = f"{state}-{memory.number}"
    memory.seen, memory.pending = state, None
    return FolderLook(arrived, files, size, json.dumps(asdict(memory)), is_complete=True)


def _enter(root: Path, name: str, memory: _Memory, pending: list[str]) -> None:
    """Adds the files of one folder; its folders are for later."""
    try:
        with os.scandir(root / name) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{name}/{entry.name}" if name else entry.name
                # Links to folders are not followed: they may lead in a circle.
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                    continue
                try:
                    state = entry.stat()
                except OSError:
                    continue  # it was moved away while we looked
                line = f"{path}|{state.st_size}|{state.st_mtime_ns}".encode()
                # A sum, so that the order in which the file system lists does not matter.
                one = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")
                memory.digest = (memory.digest + one) % _MODULUS
                memory.files += 1
                memory.bytes += state.st_size
    except OSError:
        return


def _read(cursor: str | None) -> _Memory:
    try:
        memory = _Memory(**json.loads(cursor or "{}"))
        return memory if memory.pending is None or memory.pending else _Memory()
    except (ValueError, TypeError):
        return _Memory()  # a cursor of another version
