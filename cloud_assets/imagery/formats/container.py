"""Containers of a scene's files (a folder, a zip or a tar archive, read in place); XML that need not be trusted."""

import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree.ElementTree import Element, ParseError, fromstring

from cloud_assets.errors import InvalidData, InvalidScene

_LARGEST_METADATA = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Container:
    """Files below one root. The paths of members use ``/``."""

    location: Path  # the folder or archive
    members: Mapping[str, int]  # path below the root -> size in bytes
    root: str = ""  # folder inside an archive that counts as the root
    inner: str = ""  # zip archive inside the zip archive, where archives are nested

    @property
    def prefix(self) -> str:
        """GDAL path of the root."""
        if self.location.is_dir():
            return str(self.location)
        path = str(self.location.resolve())
        if self.inner:
            path = f"/vsizip/{{/vsizip/{{{path}}}/{self.inner}}}"
        else:
            path = f"/vsitar/{{{path}}}" if _is_tar(self.location) else f"/vsizip/{{{path}}}"
        return f"{path}/{self.root}" if self.root else path

    @property
    def name(self) -> str:
        """Name of the product's folder, or of the archive without its suffix where it has no folder."""
        if self.root:
            return PurePosixPath(self.root).name
        return self.location.resolve().name if self.location.is_dir() else self.location.stem

    @property
    def fingerprint(self) -> str:
        """Changes when a file does."""
        if self.location.is_file():
            return file_fingerprint([self.location])
        return file_fingerprint([self.location / member for member in self.members])

    def gdal_path(self, member: str) -> str:
        """The path by which GDAL reads a member."""
        return f"{self.prefix}/{member}"

    def read(self, member: str) -> bytes:
        """The bytes of a small member.

        Raises:
            InvalidScene: If it is larger than any metadata file is.
            InvalidData: If it is damaged or encrypted.
        """
        if self.members[member] > _LARGEST_METADATA:
            raise InvalidScene(f"{self.location}: {member} is too large for metadata. Download the product again.")
        return b"".join(self._chunks(member))

    def verify(self, gdal_paths: Sequence[str]) -> None:
        """Reads members (GDAL paths) of an archive once a process, because GDAL passes over wrong checksums."""
        if self.location.is_file():
            for path in gdal_paths:
                _verify(self.location, self.root, self.inner, self.fingerprint, path.removeprefix(f"{self.prefix}/"))

    def below(self, folder: str) -> "Container":
        """The same files seen from a folder among them; others are left out."""
        if not folder:
            return self
        start = f"{folder}/"
        members = {name.removeprefix(start): size for name, size in self.members.items() if name.startswith(start)}
        if self.location.is_dir():
            return replace(self, location=self.location / folder, members=members)
        return replace(self, root=f"{self.root}/{folder}".strip("/"), members=members)

    def _chunks(self, member: str) -> Iterator[bytes]:
        where = f"{self.location}: {member}"
        try:
            with ExitStack() as files:
                stream = self._open(member, files)
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except RuntimeError as error:  # zipfile's way to say that a password is needed, and that a method is unknown
            raise InvalidData(
                f"{where} is encrypted or compressed by a method that cannot be read ({error}). Unpack the archive and "
                "give the folder."
            ) from error
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise InvalidData(f"{where} is damaged ({error}). Download the archive again.") from error

    def _open(self, member: str, files: ExitStack) -> IO[bytes]:
        path = f"{self.root}/{member}" if self.root else member
        if self.location.is_dir():
            return files.enter_context((self.location / member).open("rb"))
        if _is_tar(self.location):
            archive_file = files.enter_context(tarfile.open(self.location))  # noqa: SIM115  the stack closes it
            names = archive_file.getnames()
            stream = archive_file.extractfile(path if path in names else f"./{path}")
            if stream is None:
                raise EOFError(f"{path} is no file")
            return stream
        archive = files.enter_context(zipfile.ZipFile(self.location))
        if self.inner:
            archive = files.enter_context(zipfile.ZipFile(files.enter_context(archive.open(self.inner))))
        return files.enter_context(archive.open(path))


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or _is_tar(path))


def open_container(path: Path) -> Container:
    """Lists what a folder or an archive holds.

    Links in a folder are followed, as caches of catalogues use them; archives may hold plain files below their root
    only, and a tar archive is uncompressed. macOS's own files are left out. One that holds only another is that other.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        members = {file.relative_to(path).as_posix(): file.stat().st_size for file in files}
        return Container(path, _without_macos(members))
    try:
        if _is_tar(path):
            with tarfile.open(path) as tar:
                return Container(path, _tar_members(tar, path))
        with zipfile.ZipFile(path) as archive:
            members = _zip_members(archive, path)
            nested = [name for name in members if name.lower().endswith(".zip")]
            if len(nested) == 1 and len(members) == 1:
                with archive.open(nested[0]) as stream, zipfile.ZipFile(stream) as inside:
                    return Container(path, _zip_members(inside, path), inner=nested[0])
    except RuntimeError as error:
        raise InvalidData(f"{path} is encrypted ({error}). Unpack it and give the folder.") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise InvalidData(f"{path} is truncated or no archive ({error}). Download it again.") from error
    return Container(path, members)


def file_fingerprint(paths: Sequence[Path]) -> str:
    """Hash of names, sizes and times of modification: cheap, and different whenever a file was written again."""
    digest = blake2b(digest_size=16)
    for path in sorted(paths):
        state = path.stat()
        digest.update(f"{path.name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _verify(location: Path, root: str, inner: str, fingerprint: str, member: str) -> None:
    for _ in Container(location, {}, root, inner)._chunks(member):
        pass


def _is_tar(path: Path) -> bool:
    return path.is_file() and _is_tar_now(path, file_fingerprint([path]))


@lru_cache(maxsize=256)
def _is_tar_now(path: Path, fingerprint: str) -> bool:
    return not zipfile.is_zipfile(path) and tarfile.is_tarfile(path)


def _zip_members(archive: zipfile.ZipFile, path: Path) -> dict[str, int]:
    members = {}
    for member in archive.infolist():
        _check_name(member.filename, path)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InvalidData(f"{path} holds the link {member.filename!r}; no product has one. Do not use it.")
        if member.flag_bits & 1:
            raise InvalidData(f"{path} is encrypted. Unpack it with its password and give the folder.")
        if not member.is_dir():
            members[member.filename] = member.file_size
    return _without_macos(members)


def _tar_members(archive: tarfile.TarFile, path: Path) -> dict[str, int]:
    members = {}
    for member in archive:
        if member.name == "." and member.isdir():  # of an archive of a folder's content
            continue
        _check_name(member.name, path)
        if not (member.isfile() or member.isdir()):
            raise InvalidData(f"{path} holds {member.name!r}, which is no plain file. Do not use it.")
        if member.isfile():
            members[member.name.removeprefix("./")] = member.size
    return _without_macos(members)


def _check_name(name: str, path: Path) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ":" in parts[0] or ".." in parts:
        raise InvalidData(f"{path} holds {name!r}, which leads out of its folder. Do not use it.")


def _without_macos(members: Mapping[str, int]) -> dict[str, int]:
    extra = re.compile(r"__MACOSX/.*|(.*/)?(\._[^/]*|\.DS_Store)")
    return {name: size for name, size in members.items() if not extra.fullmatch(name)}


def parsed_xml(content: bytes, where: str) -> Element:
    """Parses a metadata file, which messages call ``where``."""
    # Entities could name other files or grow without end.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise InvalidData(f"{where} declares XML entities; no product does. Do not use it.")
    try:
        return fromstring(content)  # noqa: S314  entities are refused above
    except ParseError as error:
        raise InvalidScene(f"{where} is damaged ({error}). Download the product again.") from error
