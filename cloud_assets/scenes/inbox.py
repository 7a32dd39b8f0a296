"""The inbox of scenes: which scenes in it are complete, and their paths."""

from pathlib import Path

from cloud_assets.datasets.folder_watch import FolderLook, State, files_state, look_at
from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.scene_formats import is_radar, looks_like_scene, radar_beside

_NAMED = 10


def look_into(inbox: Path, cursor: str | None, seconds: float = 10.0) -> FolderLook:
    """Looks which scenes have arrived.

    Args:
        inbox: The folder; scenes are files or folders directly in it. A missing folder is an empty one.
        cursor: What the last look returned; None at the first.
        seconds: After this long the look ends; the next one goes on.

    Returns:
        What was found, by the scenes' names; see :func:`cloud_assets.datasets.folder_watch.look_at`.
    """
    return look_at(lambda: scene_keys(inbox), lambda key: _state(inbox, key), cursor, seconds)


def scene_keys(inbox: Path) -> tuple[str, ...]:
    """Keys of all scenes that lie in the inbox, whole or not."""
    return tuple(sorted(path.name for path in _scenes(inbox)))


def scene_path(inbox: Path, key: str) -> Path:
    """The path of a scene in the inbox.

    Args:
        inbox: The folder.
        key: The scene's name in it, as :func:`look_into` gave it.

    Raises:
        InvalidScene: If the key, or a link behind it, leads out of the inbox; if there is nothing of that name.
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


def _state(inbox: Path, key: str) -> State | None:
    path = inbox / key
    radar = radar_beside(path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return files_state([*files, *([] if radar is None else [radar])], inbox)
