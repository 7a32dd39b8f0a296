"""Many scenes, by their paths or from the inbox, one load of the models: what one fails at does not stop the others."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

from cloud_assets.datasets.folder_watch import FolderLook, State, files_state, look_at
from cloud_assets.errors import CloudAssetsError, InvalidData, InvalidRecipe, InvalidScene, StorageFull
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.imagery.formats.scene_formats import is_radar, looks_like_scene, open_scene, radar_beside, scene_paths
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.log_file import log_path
from cloud_assets.scenes.planning import SceneModels, SceneOptions, declared_products, plan_scene
from cloud_assets.scenes.product_record import SceneProducts, write_collection
from cloud_assets.scenes.production import deaths, scene_products
from cloud_assets.storage import machine_folder

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneOutcome:
    """How it went with one scene: products or an error."""

    named: Path | str  # what was asked for: one name may stand for several scenes
    path: Path | str  # where the scene lies
    products: SceneProducts | None
    error: Exception | None


class SceneBatch:
    """Scenes, by their paths or addresses, that are processed one after the other.

    Each scene's products go to a folder of its name in ``out_dir``. ``bands``, ``instrument`` and ``scaling`` are those
    of raster files that do not tell them. ``radar`` are radar scenes of the first, second, … scene, else those beside.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        bundles: Sequence[ModelBundle],
        out_dir: Path,
        options: SceneOptions,
        *,
        bands: Sequence[str] | None = None,
        instrument: str | None = None,
        scaling: Scaling | None = None,
        radar: Sequence[Path | str] = (),
    ) -> None:
        # A folder's *.tif names the radar partners too; they are no scenes of their own.
        partners = {radar_beside(path) for path in paths}
        self.out_dir = out_dir
        """Where the products go."""
        self._options = options
        kept = (path for path in paths if path not in partners)
        self._scenes = [(path, *found) for path in kept for found in _scenes(path, bands, instrument, scaling)]
        if len(radar) > len(self._scenes):
            raise InvalidRecipe(
                f"{len(radar)} radar scenes for {len(self._scenes)} scenes: name one for each, at most."
            )
        beside = [*radar, *(radar_beside(path) for _, path, _ in self._scenes[len(radar) :])]
        self._radar = [None if path is None else attempt(open_scene, path, None, "sentinel1_grd") for path in beside]
        megapixels = sum(source.megapixels for _, _, source in self._scenes if isinstance(source, SceneSource))
        self._models = SceneModels(bundles, options, megapixels)
        readers = {product.family for product in declared_products().values() if product.reads == "radar"}
        if radar and not any(self._models.has(family) for family in readers):
            raise InvalidRecipe("None of the models reads radar: name one that does (--model), or leave --radar out.")

    @property
    def megapixels(self) -> float:
        """Pixels that go through models in all scenes, in millions."""
        total = 0.0
        for (_, _, source), radar in zip(self._scenes, self._radar, strict=True):
            if isinstance(source, SceneSource) and not isinstance(radar, Exception):
                try:
                    plan = plan_scene(source, self._models, self._options, radar)
                except CloudAssetsError:
                    continue
                total += plan.source.megapixels * plan.passes
        return total

    def run(self, progress: Callable[[int], object] | None = None) -> Iterator[SceneOutcome]:
        """Processes the scenes, in their order; after a full disk no further scene is tried.

        Those that a process has died in come last, so that they take no others with them.
        """
        names: dict[str, Path | str] = {}
        died = [0 if isinstance(one, Exception) else deaths(self.out_dir / one.name) for _, _, one in self._scenes]
        scenes = sorted(zip(self._scenes, self._radar, died, strict=True), key=lambda one: one[2])
        for (named, path, source), radar, _ in scenes:
            done = self._one(path, source, radar, names, progress)
            products, error = (None, done) if isinstance(done, Exception) else (done, None)
            yield SceneOutcome(named, path, products, error)
            if isinstance(error, StorageFull):
                return

    def _one(
        self,
        path: Path | str,
        source: SceneSource | Exception,
        radar: SceneSource | Exception | None,
        names: dict[str, Path | str],
        progress: Callable[[int], object] | None,
    ) -> SceneProducts | Exception:
        if isinstance(source, Exception):
            return source
        if isinstance(radar, Exception):
            return radar
        # Products of namesakes would overwrite each other; what another scene of this name has made before stays too.
        spelt = chain([source.name], (f"{source.name}_{number}" for number in count(2)))
        name = next(one for one in spelt if self._is_free(one, source) and names.setdefault(one, path) == path)
        source = replace(source, name=name)
        try:
            return scene_products(source, self._models, self.out_dir, self._options, radar, progress)
        except CloudAssetsError as error:
            return error
        except Exception as error:  # whatever a library raises in one scene must not take the others with it
            return _unexpected(path, error)

    def _is_free(self, name: str, source: SceneSource) -> bool:
        try:
            return self._options.overwrite or SceneProducts.open(self.out_dir / name).source == source.address
        except InvalidScene:
            return True


def _scenes(
    path: Path | str, bands: Sequence[str] | None, instrument: str | None, scaling: Scaling | None
) -> list[tuple[Path | str, SceneSource | Exception]]:
    """What one name stands for, opened: often one scene, of a folder or a collection several."""
    paths = attempt(scene_paths, path)
    if isinstance(paths, Exception):
        return [(path, paths)]
    return [(one, attempt(open_scene, one, bands, instrument, scaling)) for one in paths]


def attempt(act: Callable[..., Result], path: Path | str, *more: Any) -> Result | Exception:
    """What a function makes of a path, or the error to tell the user."""
    try:
        return act(path, *more)
    except CloudAssetsError as error:
        return error
    except Exception as error:  # whatever a library raises about one file must not take the other scenes with it
        return _unexpected(path, error)


def _unexpected(path: Path | str, error: Exception) -> CloudAssetsError:
    """An error that nobody foresaw, without its traceback, which is in the log file."""
    _log.info("%s failed", path, exc_info=error)
    said = InvalidData(
        f"{path}: {type(error).__name__}: {error}. If the file is whole and the folders can be read and written, this "
        f"is a defect of Cloud Assets: please report it with the end of {log_path()}."
    )
    said.__cause__ = error
    return said


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


def batch_lock(out_dir: Path) -> Path:
    """The file that a batch of this machine locks; those of other machines may write into the same folder."""
    name = blake2b(str(out_dir.resolve()).encode(), digest_size=8).hexdigest()
    return machine_folder() / f"scenes-{name}.lock"


NOT_TRIED = "not tried: the disk is full, or it is the radar partner of another scene of this batch."


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
) -> Iterator[tuple[str, SceneProducts | str]]:
    """Makes the products of scenes, named as by :func:`look_into`: key and products, or why there are none.

    A folder that holds several scenes has several outcomes.

    Each batch takes all cores and much memory, so a second one on the same machine waits until the first is done;
    ``tell`` is called with one sentence then. The other arguments are those of :class:`SceneBatch`.
    """
    from filelock import FileLock, Timeout

    for folder in (out_dir, machine_folder()):
        folder.mkdir(parents=True, exist_ok=True)
    # The operating system lets go of it when its process ends, however that happens: a killed run blocks nobody.
    lock = FileLock(batch_lock(out_dir))
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
                yield key, str(error)
        batch = SceneBatch(list(paths), bundles, out_dir, options, bands=bands, instrument=instrument, scaling=scaling)
        untried = dict.fromkeys(paths.values())
        for outcome in batch.run():
            key = paths[Path(outcome.named)]
            untried.pop(key, None)
            yield key, outcome.products or str(outcome.error)
        for key in untried:
            yield key, NOT_TRIED
        with FileLock(out_dir / ".lock"):  # batches of other machines end too
            write_collection(out_dir)
    finally:
        lock.release()
