"""The inbox of scenes: which of them are complete, their paths, and their products."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_assets.datasets.folder_watch import FolderLook, State, files_state, look_at
from cloud_assets.errors import CloudAssetsError, InvalidScene
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.imagery.formats.scene_formats import is_radar, looks_like_scene, radar_beside
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.scenes.batch import SceneBatch
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.scenes.stac import write_collection

_NAMED = 10


def look_into(inbox: Path, cursor: str | None, seconds: float = 10.0) -> FolderLook:
    """Looks which scenes, files or folders directly in the inbox, have arrived since the look that returned the cursor.

    After ``seconds`` the look ends and the next one goes on; see :func:`cloud_assets.datasets.folder_watch.look_at`.
    """
    return look_at(lambda: scene_keys(inbox), lambda key: _state(inbox, key), cursor, seconds)


def scene_keys(inbox: Path) -> tuple[str, ...]:
    """Keys of all scenes that lie in the inbox, whole or not."""
    return tuple(sorted(path.name for path in inbox.iterdir() if _is_scene(path))) if inbox.is_dir() else ()


def scene_path(inbox: Path, key: str) -> Path:
    """The path of a scene in the inbox by the name that :func:`look_into` gave it.

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


def _is_scene(path: Path) -> bool:
    is_hidden = path.name.startswith((".", "~")) or path.is_symlink()
    return not is_hidden and not is_radar(path) and looks_like_scene(path)


def _state(inbox: Path, key: str) -> State | None:
    path = inbox / key
    radar = radar_beside(path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return files_state([*files, *([] if radar is None else [radar])], inbox)


NOT_TRIED = "not tried: the disk is full, or it is the radar partner of another scene of this batch."


@dataclass(frozen=True)
class InboxOutcome:
    """How it went with one scene: products, or why there are none."""

    key: str
    products: SceneProducts | None
    reason: str
    """Empty with products."""


def process_inbox(
    inbox: Path,
    keys: Sequence[str],
    bundles: Sequence[ModelBundle],
    out_dir: Path,
    options: SceneOptions,
    *,
    bands: Sequence[str] | None = None,
    instrument: str | None = None,
    scaling: Scaling | None = None,
    tell: Callable[[str], None],
) -> Iterator[InboxOutcome]:
    """Makes the products of scenes, named as by :func:`look_into`: several outcomes of a folder that holds several.

    Each batch takes all cores and much memory, so a second one on the same machine waits until the first is done;
    ``tell`` is called with one sentence then. The other arguments are those of :class:`SceneBatch`.
    """
    from filelock import FileLock, Timeout

    out_dir.mkdir(parents=True, exist_ok=True)
    # The operating system lets go of it when its process ends, however that happens: a killed run blocks nobody.
    lock = FileLock(out_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("Another run is processing scenes here; this one goes on when that is done.")
        lock.acquire()
    try:
        paths: dict[Path, str] = {}
        for key in keys:
            try:
                paths[scene_path(inbox, key)] = key
            except CloudAssetsError as error:
                yield InboxOutcome(key, None, str(error))
        batch = SceneBatch(list(paths), bundles, out_dir, options, bands=bands, instrument=instrument, scaling=scaling)
        untried = dict.fromkeys(paths.values())
        for outcome in batch.run():
            key = paths[Path(outcome.named)]
            untried.pop(key, None)
            yield InboxOutcome(key, outcome.products, str(outcome.error or ""))
        for key in untried:
            yield InboxOutcome(key, None, NOT_TRIED)
        write_collection(out_dir)
    finally:
        lock.release()
