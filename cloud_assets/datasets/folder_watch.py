"""Detection of files that have arrived in a folder and stopped changing, by names, sizes and times."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

State = tuple[int, int, int]
"""Number of files, their bytes, and a number that changes with their names or times of modification."""
DATA = ""  # key of a whole data folder in :func:`look_at_data`
_MODULUS = 2**63


@dataclass(frozen=True)
class FolderLook:
    """What one look at a folder found."""

    ready: tuple[str, ...]  # keys whose state was the same in two rounds, and another one when they were last ready
    states: Mapping[str, State]  # the state of each key, so far in this round
    number: int  # how many rounds found something ready; tells a state apart that comes back after another one
    cursor: str  # to be given to the next look
    is_complete: bool  # False if time ran out; the next look goes on there


@dataclass
class _Memory:
    """What a look remembers for the next one."""

    pending: list[str] = field(default_factory=list)  # items that this round has still to look at; empty between rounds
    states: dict[str, State] = field(default_factory=dict)  # sums over the items of each key, so far in this round
    before: dict[str, State] = field(default_factory=dict)  # states at the end of the last round
    told: dict[str, State] = field(default_factory=dict)  # state in which each key was last ready
    number: int = 0


def look_at(
    items: Callable[[], Iterable[str]],
    state_of: Callable[[str], State | None],
    cursor: str | None,
    seconds: float = 10.0,
    key_of: Callable[[str], str] = str,
) -> FolderLook:
    """Looks which of the things in a folder are new or changed, and whole; only the end of a round finds any ready.

    Something is ready when two rounds in a row find it in the same state: nothing is reported of what is still being
    copied. What was taken away and comes back is ready again. A longer round goes on in the next look.

    Args:
        items: Lists what there is to look at; asked at the beginning of a round.
        state_of: The state of an item; None if it is gone.
        cursor: What the last look returned; None at the first.
        seconds: After this long the look ends, but it looks at one item at least.
        key_of: What an item belongs to; the states of the items of a key are added up.
    """
    until = time.monotonic() + seconds
    try:
        memory = TypeAdapter(_Memory).validate_json(cursor or "{}")
    except ValueError:
        memory = _Memory()  # a cursor of another version
    if not memory.pending:
        memory.pending, memory.states = sorted(items(), reverse=True), {}
    while memory.pending:
        item = memory.pending.pop()
        if (state := state_of(item)) is not None:
            memory.states[key_of(item)] = _sum(memory.states.get(key_of(item), (0, 0, 0)), state)
        if time.monotonic() > until:
            break
    ready: tuple[str, ...] = ()
    if not memory.pending:
        ready = tuple(
            key for key, state in memory.states.items() if memory.before.get(key) == state != memory.told.get(key)
        )
        still_there = {key: state for key, state in memory.told.items() if key in memory.states}
        memory.told = still_there | {key: memory.states[key] for key in ready}
        memory.before = memory.states
        memory.number += bool(ready)
    return FolderLook(ready, memory.states, memory.number, json.dumps(asdict(memory)), not memory.pending)


def look_at_data(folder: Path, cursor: str | None, seconds: float = 10.0) -> FolderLook:
    """Looks whether the files in a folder, at any depth, are others than before; see :func:`look_at`.

    The folder is one single thing, with the key :data:`DATA`. Hidden files are left out and links to folders not
    followed. A missing folder is an empty one. The look ends at the end of the folder that it is in.
    """

    def folders() -> Iterator[str]:
        for place, inner, _ in os.walk(folder):
            inner[:] = [name for name in inner if not name.startswith(".")]
            yield str(Path(place).relative_to(folder))

    def files(name: str) -> Iterator[Path]:
        """Files and links that lie in a folder itself; none if it is gone."""
        with suppress(OSError), os.scandir(folder / name) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False):
                    yield Path(entry.path)

    return look_at(folders, lambda name: files_state(files(name), folder), cursor, seconds, lambda _: DATA)


def files_state(files: Iterable[Path], root: Path) -> State | None:
    """The state of some files, their names relative to ``root``; None if there are none. Those gone do not count."""
    total: State = (0, 0, 0)
    for file in files:
        try:
            state = file.stat()
        except OSError:
            continue  # it was moved away meanwhile, or is a link that leads nowhere
        line = f"{file.relative_to(root)}|{state.st_size}|{state.st_mtime_ns}".encode()
        # A sum, so that the order in which the file system lists does not matter.
        total = _sum(total, (1, state.st_size, int.from_bytes(hashlib.blake2b(line, digest_size=7).digest())))
    return total if total[0] else None


def _sum(one: State, other: State) -> State:
    return one[0] + other[0], one[1] + other[1], (one[2] + other[2]) % _MODULUS
