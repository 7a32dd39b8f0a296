"""Resources: the folders of data and results, MLflow, and the IO manager that keeps assets in these folders."""

import contextlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, get_args, runtime_checkable

import dagster as dg
from filelock import FileLock
from pydantic import Field

from cloud_assets.datasets.dataset import Dataset
from cloud_assets.datasets.rasters import combined_digest
from cloud_assets.datasets.samples import SYNTHETIC_MARKER
from cloud_assets.errors import CloudAssetsError, DataNotFound, InvalidData, InvalidRecipe, SourceUnreachable
from cloud_assets.imagery.writing import storage_errors
from cloud_assets.reports.report import PAGE_FILE
from cloud_assets.scenes.product_record import RECORD_FILE
from cloud_assets.settings import settings
from cloud_assets.storage import atomic_directory, recover_directory

if TYPE_CHECKING:
    from upath import UPath

    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.tracking import Tracker

Source = Literal["auto", "sample"]
POINTER_FILE = "current.json"
"""In an object store, which has no rename: names the complete version, its files and their sizes; written last."""

_TELLING = {"size", "ETag", "etag", "LastModified", "mtime", "updated", "created"}  # what stores say of a version
_TIME = "%Y%m%dT%H%M%S"
_KEPT = timedelta(days=7)  # uploads, downloads and runs that take longer do not count


class Folders(dg.ConfigurableResource["Folders"]):
    """Where raw data come from and where results go. Empty values follow the environment at the time of the run."""

    data: str = Field(
        default="", description="Folder or address of the raw data. Empty: CLOUD_ASSETS_DATA, else the embedded sample."
    )
    home: str = Field(
        default="", description="Where results go: a folder or an object store. Empty: CLOUD_ASSETS_HOME, else data."
    )
    inbox: str = Field(
        default="", description="Folder that scenes are dropped into. Empty: CLOUD_ASSETS_INBOX, else inbox at home."
    )

    @property
    def results(self) -> "UPath":
        """Where results go; absolute."""
        from upath import UPath

        place = UPath(self.home or settings().home)
        return place.absolute() if is_local(place) else place

    @property
    def working(self) -> Path:
        """A local folder for what outlives a run but is no asset: checkpoints, caches, the sample.

        Raises:
            InvalidRecipe: Results go to an object store and the environment names no folder for this.
        """
        results = self.results
        if is_local(results):
            return Path(results.path)
        if (work := settings().work) is None:
            raise InvalidRecipe(
                f"Results go to {results}; checkpoints and caches need a folder: set CLOUD_ASSETS_WORK, the same for "
                "all processes. It was data/ in the folder that each process was started from."
            )
        return work

    @property
    def incoming(self) -> Path:
        """The folder that scenes are dropped into."""
        given = Path(self.inbox).expanduser().absolute() if self.inbox else settings().inbox
        return given or self.working / "inbox"

    @property
    def scenes(self) -> Path:
        """Where the products of scenes are made; they are rasters, which need a file system of this machine."""
        return self.working / "scenes"

    def publish_scene(self, directory: Path) -> None:
        """Copies new products of a scene to where results go, if that is not this machine; the record comes last."""
        if is_local(self.results):
            return
        target = self.results / "scenes" / directory.name
        with _told(target):
            with contextlib.suppress(FileNotFoundError):
                if target.fs.cat_file((target / RECORD_FILE).path, start=0) == (directory / RECORD_FILE).read_bytes():
                    return
            for file in sorted(directory.iterdir(), key=lambda file: file.name == RECORD_FILE):
                target.fs.put_file(str(file), (target / file.name).path)

    @property
    def training(self) -> Path:
        """Where the workspaces of trainings are."""
        return self.working / ".training"

    def report(self, task: str, name: str) -> str:
        """The page of an asset that is a report."""
        return str(self.results.joinpath(task, name, PAGE_FILE))

    def workspace(self, bundle: "ModelBundle") -> Path:
        """The workspace of the training that a model comes from."""
        from cloud_assets.lifecycle.training import workspace_of

        card = bundle.card
        return workspace_of(self.training, card.task, card.variant, card.training.fingerprint)

    @property
    def _given_data(self) -> "UPath | None":
        from upath import UPath

        if not (given := self.data or settings().data):
            return None
        return UPath(given).expanduser().absolute() if is_local(UPath(given)) else UPath(given)

    def present_data(self, dataset: Dataset) -> Path:
        """The data set's own folder that the next run would read; it may not be there yet."""
        given = self._given_data
        root = self.working / "sample" if given is None or not is_local(given) else Path(given.path)
        return dataset.place or root / dataset.folder

    def raw_data(self, dataset: Dataset, source: Source, sample_scale: float) -> Path:
        """The folder that holds the data set's own; makes the embedded sample if need be, or if asked to.

        ``sample_scale`` is the size of the sample relative to the embedded one.
        """
        if dataset.place is not None:
            return dataset.place
        if (given := self._given_data) is not None and source == "auto":
            return Path(given.path) if is_local(given) else _copied(given / dataset.folder, self.working / ".downloads")
        root = self.working / ("sample" if sample_scale == 1 else f"sample-{sample_scale:g}")
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{dataset.folder}.lock"):
            if not (root / dataset.folder / SYNTHETIC_MARKER).is_file():
                dataset.write_sample(root, scale=sample_scale)
        return root


class Tracking(dg.ConfigurableResource["Tracking"]):
    """MLflow. Credentials come from MLflow's own environment variables, never from the configuration."""

    uri: str = Field(
        default="", description="Tracking server or store. Empty: MLFLOW_TRACKING_URI, or a SQLite store in mlflow/."
    )

    def tracker(self) -> "Tracker":
        """The tracking store and registry."""
        from cloud_assets.tracking import Tracker

        return Tracker(self.uri or None)


@runtime_checkable
class DomainObject(Protocol):
    """What assets take and return."""

    def save(self, directory: Path) -> None:
        """Writes the object into a folder."""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads an object that :meth:`save` wrote."""


Kind = TypeVar("Kind", bound=DomainObject)


class AssetFolders(dg.UPathIOManager):
    """Saves domain objects to ``<home>/<asset key>`` and opens them by the type of the input that asks for them.

    ``home`` is a folder or an object store; of the latter, versions are downloaded to the local folder ``cache``.
    """

    def __init__(self, home: "UPath", cache: Path) -> None:
        super().__init__(base_path=home)
        self._home, self._cache = home, cache

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: "UPath") -> None:
        """Writes an asset's new version and then, at once, puts it in the place of the old one."""
        if not isinstance(obj, DomainObject):
            name = context.asset_key.to_user_string()
            raise TypeError(f"{name} returned a {type(obj).__name__}, which has no save and open.")
        if is_local(path):
            with atomic_directory(Path(path.path)) as temporary:
                obj.save(temporary)
            return
        with storage_errors(self._cache / path.name):
            _clear(self._cache)
            with tempfile.TemporaryDirectory(prefix=".upload-", dir=self._cache) as temporary:
                obj.save(Path(temporary))
                with _told(path):
                    _publish(Path(temporary), path)

    def make_directory(self, path: "UPath") -> None:
        """Nothing: what is written makes its folder, and a bucket of a misspelt name is not to be made."""

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> Any:
        """Opens an asset as the type that the input is annotated with; None if that is optional and nothing is there.

        :class:`DataNotFound` if the asset was never materialised, or not with this home.
        """
        wanted = context.dagster_type.typing_type
        kind, *others = get_args(wanted) or (wanted,)
        if not hasattr(kind, "open"):
            raise TypeError(f"The input {context.name!r} needs a type with open(directory), not {wanted}.")
        key = context.asset_key.path
        return self.find(key, kind) if NoneType in others else kind.open(self.folder(key))

    def find(self, key: Sequence[str], kind: type[Kind]) -> Kind | None:
        """Opens an asset that may never have been materialised; None if this home does not hold it."""
        try:
            return kind.open(self.folder(key))
        except DataNotFound:
            return None

    def folder(self, key: Sequence[str]) -> Path:
        """The local folder that holds an asset, of an object store a copy; :class:`DataNotFound` if there is none."""
        path = self._home.joinpath(*key)
        if is_local(path):
            recover_directory(Path(path.path))
            if path.is_dir():
                return Path(path.path)
        elif (copy := self._downloaded(path)) is not None:
            return copy
        raise DataNotFound(
            f"{'/'.join(key)} is not there: {path} holds nothing. Materialise it first (its job does, from the start "
            "of the lineage), or set CLOUD_ASSETS_HOME to the folder that has it."
        )

    def _downloaded(self, path: "UPath") -> Path | None:
        with _told(path), storage_errors(self._cache / path.name):
            if (pointer := _pointer(path)) is None:
                return None
            version: str = pointer["version"]
            target = self._cache / version
            with FileLock(f"{target}.lock"):
                if target.is_dir():
                    os.utime(target)  # so that nobody clears it away
                    return target
                _clear(self._cache)
                try:
                    with atomic_directory(target) as temporary:
                        _fetch(path / version, temporary, pointer.get("files"))
                    return target
                except (FileNotFoundError, InvalidData):
                    latest = _pointer(path)
                    if latest is None or latest["version"] == version:
                        raise
        return self._downloaded(path)  # two newer versions were published meanwhile


class AssetStore(dg.ConfigurableIOManagerFactory[AssetFolders]):
    """Keeps each asset in its own folder of the results."""

    folders: dg.ResourceDependency[Folders]

    def create_io_manager(self, context: dg.InitResourceContext | None = None) -> AssetFolders:
        """Makes the IO manager for a run, or for what reads assets outside of one."""
        return AssetFolders(self.folders.results, self.folders.working / ".downloads")


def is_local(path: "UPath") -> bool:
    """Whether a path is one of this machine, not one in an object store."""
    return path.protocol in ("", "file", "local")


@contextlib.contextmanager
def _told(path: "UPath", variable: str = "CLOUD_ASSETS_HOME") -> Iterator[None]:
    """Says what to do about an object store that refuses or does not answer."""
    try:
        yield
    except CloudAssetsError:
        raise
    except Exception as error:  # each store's client has errors of its own
        raise SourceUnreachable(
            f"{path}: the object store refuses: {error}. {variable} names the bucket, which has to be there, "
            "AWS_ENDPOINT_URL the server, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY the key. Mend them and run again."
        ) from error


def _pointer(path: "UPath") -> dict[str, Any] | None:
    """The pointer of an asset in an object store as it is now; None if there is none."""
    path.fs.invalidate_cache()  # clients remember listings for ever, and answer from them what exists
    try:
        # With a start, s3fs reads in one request; without it asks for the size first, which may change meanwhile.
        found: dict[str, Any] = json.loads(path.fs.cat_file((path / POINTER_FILE).path, start=0))
    except FileNotFoundError:
        return None
    return found


def _fetch(path: "UPath", folder: Path, files: Mapping[str, int] | None) -> None:
    """Downloads a version; :class:`InvalidData` if it is not whole."""
    if files is None:  # published before pointers had a list
        path.fs.get(f"{path.path}/", str(folder), recursive=True)
        return
    for name, size in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.fs.get_file((path / name).path, str(folder / name))
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            raise InvalidData(
                f"{path / name} is gone or has not the {size} bytes that were published. Something else has changed "
                "the object store. Materialise the asset again."
            )


def _copied(source: "UPath", cache: Path) -> Path:
    """A local copy of a folder in an object store, made anew when anything in the folder has changed; what holds it."""
    with _told(source, "CLOUD_ASSETS_DATA"), storage_errors(cache):
        source.fs.invalidate_cache()
        found = source.fs.find(source.path, detail=True)
        if not found or any(".." in Path(name).parts for name in found):
            raise DataNotFound(f"{source} holds no file, or names that lead out of it. Mend it, or CLOUD_ASSETS_DATA.")
        states = [f"{name} {sorted((key, str(of[key])) for key in _TELLING & of.keys())}" for name, of in found.items()]
        target = cache / combined_digest([str(source), *sorted(states)])
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                _clear(cache)
                with atomic_directory(target) as temporary:
                    source.fs.get(source.path, str(temporary / source.name), recursive=True)
            os.utime(target)  # so that nobody clears it away
    return target


def _publish(folder: Path, path: "UPath") -> None:
    """Uploads a new version, switches the pointer to it, and removes the one before the previous one.

    What else lies there may be what another process is uploading; it is removed when it is old.
    """
    version, files = f"{datetime.now(UTC):{_TIME}}-{uuid.uuid4().hex}", {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = file.relative_to(folder).as_posix()
        path.fs.put_file(str(file), (path / version / name).path)
        files[name] = file.stat().st_size
    before = _pointer(path) or {}
    pointer = {"version": version, "previous": before.get("version"), "files": files}
    path.fs.pipe_file((path / POINTER_FILE).path, json.dumps(pointer).encode())
    oldest = f"{datetime.now(UTC) - _KEPT:{_TIME}}"
    for name in {Path(found).name for found in path.fs.ls(path.path, detail=False)} - {version, before.get("version")}:
        is_dead = name < oldest and re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{32}", name)
        if is_dead or name == before.get("previous"):
            with contextlib.suppress(FileNotFoundError):  # another writer was faster
                path.fs.rm((path / name).path, recursive=True)


def _clear(cache: Path) -> None:
    """Makes the folder of local copies and removes those, and what killed processes left, that are long unused."""
    cache.mkdir(parents=True, exist_ok=True)
    oldest = (datetime.now(UTC) - _KEPT).timestamp()
    for path in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process clears up too
            if path.stat().st_mtime < oldest:
                (shutil.rmtree if path.is_dir() else os.unlink)(path)
