"""A folder that scenes are dropped into: which of them are whole, found by looking at names, sizes and times only."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.scene_formats import is_radar, looks_like_scene, radar_beside

State = tuple[int, int, int]
"""Number of files, their bytes, the latest time of modification in nanoseconds."""
_NAMED = 10


@dataclass(frozen=True)
class InboxLook:
    """What one look into the inbox found."""

    ready: tuple[str, ...]
    """Keys of the scenes that have stopped growing and were not handed out in this state before."""
    states: Mapping[str, State]
    """Scene -> the state it was found in, for all that were ever seen here and still are."""
    cursor: str
    """To be given to the next look."""
    is_complete: bool
    """False if time ran out before all scenes were looked at; the next look goes on there."""


def look_into(inbox: Path, cursor: str | None, seconds: float = 10.0) -> InboxLook:
    """Looks which scenes have arrived.

    A scene is ready when two looks in a row find it in the same state: neither file count, size nor time has changed.
    One that is replaced by another version later becomes ready again.

    Args:
        inbox: The folder; scenes are files or folders directly in it. A missing folder is an empty one.
        cursor: What the last look returned; None at the first.
        seconds: After this long the look ends; what was not seen is looked at first next time.

    Returns:
        What was found.
    """
    until = time.monotonic() + seconds
    before = _Memory.read(cursor)
    entries = sorted(_scenes(inbox))
    names = {path.name for path in entries}
    # Scenes that the last look did not come to are looked at first.
    entries.sort(key=lambda path: path.name not in before.unseen)
    seen: dict[str, State] = {}
    handed_out = {name: state for name, state in before.handed_out.items() if name in names}
    ready = []
    unseen: list[str] = []
    for path in entries:
        if time.monotonic() > until:
            unseen.append(path.name)
            if path.name in before.states:
                seen[path.name] = before.states[path.name]
            continue
        state = _state(path)
        if state is None:
            continue
        seen[path.name] = state
        if before.states.get(path.name) == state != handed_out.get(path.name):
            ready.append(path.name)
            handed_out[path.name] = state
    memory = _Memory(seen, handed_out, tuple(unseen))
    return InboxLook(tuple(ready), seen, memory.written(), not unseen)


def scene_keys(inbox: Path) -> tuple[str, ...]:
    """Keys of all scenes that lie in the inbox, whole or not."""
    return tuple(sorted(path.name for path in _scenes(inbox)))


def scene_path(inbox: Path, key: str) -> Path:
    """The path of a scene in the inbox.

    Args:
        inbox: The folder.
        key: The scene's name in it, as :func:`look_into` gave it.

    Raises:
        InvalidScene: If the key, or a link behind it, leads out of the inbox.
        InvalidScene: If there is nothing of that name.
    """
    path = inbox / key
    if Path(key).name != key or key in (".", "..") or not path.resolve().is_relative_to(inbox.resolve()):
        raise InvalidScene(f"{key!r} leads out of the inbox {inbox}; scenes must lie in it themselves.")
    if not path.exists():
        there = ", ".join(scene_keys(inbox)[:_NAMED]) or "nothing"
        raise InvalidScene(
            f"{path} is gone, or its name is another one. Put the scene into the inbox, or name one that lies there "
            f"(there is {there})."
        )
    return path


def _scenes(inbox: Path) -> list[Path]:
    return [path for path in inbox.iterdir() if _is_scene(path)] if inbox.is_dir() else []


def _is_scene(path: Path) -> bool:
    if path.name.startswith((".", "~")) or path.is_symlink() or is_radar(path):
        return False
    return looks_like_scene(path)


def _state(path: Path) -> State | None:
    try:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        radar = radar_beside(path)
        files += [] if radar is None else [radar]
        states = [file.stat() for file in files]
    except OSError:
        return None  # it was moved away while we looked
    if not states:
        return None
    return len(states), sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


@dataclass(frozen=True)
class _Memory:
    """What a look remembers for the next one."""

    states: Mapping[str, State]
    handed_out: Mapping[str, State]
    unseen: tuple[str, ...]

    @classmethod
    def read(cls, cursor: str | None) -> "_Memory":
        try:
            content = json.loads(cursor or "{}")
            states, handed_out = (
                {
                    str(name): (int(count), int(size), int(at))
                    for name, (count, size, at) in content.get(key, {}).items()
                }
                for key in ("states", "handed_out")
            )
            return cls(states, handed_out, tuple(content.get("unseen", ())))
        except (ValueError, TypeError, AttributeError):
            # A cursor of another version: start anew, finished scenes are skipped by their fingerprint anyway.
            return cls({}, {}, ())

    def written(self) -> str:
        return json.dumps({"states": self.states, "handed_out": self.handed_out, "unseen": self.unseen})
