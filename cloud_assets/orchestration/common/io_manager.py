"""Where assets lie: one folder an asset key, in a local folder or in an object store.

Each domain object writes itself with ``save(directory)`` and reads itself with ``open(directory)``; this module only
decides where, and sees to it that a killed run leaves either the old version or the new one. Nothing is ever pickled.
"""

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, get_args, runtime_checkable

import dagster as dg

from cloud_assets.errors import DataNotFound
from cloud_assets.storage import atomic_directory, recover_directory

if TYPE_CHECKING:
    from upath import UPath

POINTER_FILE = "current.json"
"""In an object store, which has no rename: names the folder of the complete version."""


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

    Args:
        home: Where results go: a folder, or the address of an object store that fsspec knows.
        cache: Local folder that versions from an object store are downloaded to.
    """

    def __init__(self, home: "UPath", cache: Path) -> None:
        super().__init__(base_path=home)
        self._home = home
        self._cache = cache

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: "UPath") -> None:
        """Writes an asset's new version and then, at once, puts it in the place of the old one.

        Args:
            context: Names the asset.
            obj: A domain object.
            path: The asset's folder.

        Raises:
            TypeError: If ``obj`` is not a domain object.
        """
        if not isinstance(obj, DomainObject):
            raise TypeError(f"{_name(context)} returned a {type(obj).__name__}, which has no save and open.")
        local = _local(path)
        if local is not None:
            with atomic_directory(local) as temporary:
                obj.save(temporary)
            return
        with atomic_directory(self._cache / "upload" / uuid.uuid4().hex) as temporary:
            obj.save(temporary)
            _publish(temporary, path)
        shutil.rmtree(self._cache / "upload", ignore_errors=True)

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> Any:
        """Opens an asset as the type that the input is annotated with.

        Args:
            context: Names the asset and the input's type, which may be optional.
            path: The asset's folder.

        Returns:
            The asset; None if the type is optional and this home does not hold the asset.

        Raises:
            DataNotFound: If the asset was never materialised, or not with this home.
        """
        wanted = context.dagster_type.typing_type
        kind, *others = get_args(wanted) or (wanted,)
        if not hasattr(kind, "open"):
            raise TypeError(f"The input {context.name!r} needs a type with open(directory), not {wanted}.")
        if NoneType in others:
            return self.find(context.asset_key.path, kind)
        return kind.open(self._folder(_name(context), path))

    def find(self, key: Sequence[str], kind: type[Kind]) -> Kind | None:
        """Opens an asset that may never have been materialised.

        Returns:
            The asset; None if this home does not hold it.
        """
        try:
            return kind.open(self._folder("/".join(key), self._home.joinpath(*key)))
        except DataNotFound:
            return None

    def _folder(self, name: str, path: "UPath") -> Path:
        local = _local(path)
        if local is not None:
            recover_directory(local)
            if local.is_dir():
                return local
        elif (path / POINTER_FILE).exists():
            return self._downloaded(path)
        raise DataNotFound(
            f"{name} is not there: {path} holds nothing. Materialise it first (its job does, from the start of the "
            "lineage), or set CLOUD_ASSETS_HOME to the folder that has it."
        )

    def _downloaded(self, path: "UPath") -> Path:
        version: str = json.loads((path / POINTER_FILE).read_text(encoding="utf-8"))["version"]
        target = self._cache / version
        if not target.is_dir():
            with atomic_directory(target) as temporary:
                path.fs.get(f"{(path / version).path}/", str(temporary), recursive=True)
        return target


def is_local(path: "UPath") -> bool:
    """Whether a path is one of this machine, not one in an object store."""
    return path.protocol in ("", "file", "local")


def _name(context: dg.InputContext | dg.OutputContext) -> str:
    return context.asset_key.to_user_string() if context.has_asset_key else str(context.name)


def _local(path: "UPath") -> Path | None:
    """The path as one of this machine, None if it is in an object store."""
    return Path(path.path) if is_local(path) else None


def _publish(folder: Path, path: "UPath") -> None:
    """Uploads a new version, switches the pointer to it, and removes all versions but the new and the previous one."""
    pointer = path / POINTER_FILE
    previous = json.loads(pointer.read_text(encoding="utf-8"))["version"] if pointer.exists() else None
    version = uuid.uuid4().hex
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        target = path / version / file.relative_to(folder).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        path.fs.put_file(str(file), target.path)
    pointer.write_text(json.dumps({"version": version}), encoding="utf-8")
    for old in path.iterdir():
        if old.is_dir() and old.name not in (version, previous):
            path.fs.rm(old.path, recursive=True)
