"""Unpacks archives from the internet safely: plain files only, below the target only, each whole or not there."""

import errno
import json
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from cloud_assets.errors import InvalidData, StorageFull
from cloud_assets.storage import atomic_file

_STAMP = ".unpacking.json"


def unpack(archive: Path, target: Path, progress: bool) -> None:
    """Unpacks a (compressed) tar archive, going on where an earlier call was interrupted.

    Files that are there already are kept if they come from this very archive (same size and time of change); those of
    an older version of the archive are removed first.

    Args:
        archive: The archive.
        target: Folder to unpack into; it belongs to this archive alone.
        progress: Whether to show a progress bar.

    Raises:
        InvalidData: A member is a link or a device, or would be written outside ``target``; nothing of it is written.
            The archive is truncated or no archive; the files before the damage stay.
        StorageFull: The disk is full; call it again when there is room.
    """
    from tqdm import tqdm

    stamp = target / _STAMP
    size, changed = archive.stat().st_size, archive.stat().st_mtime_ns
    begun = {"archive": archive.name, "size": size, "changed": changed, "is_complete": False}
    state = _read_stamp(stamp)
    if state == {**begun, "is_complete": True}:
        return
    if state != begun:
        shutil.rmtree(target, ignore_errors=True)
        _write_stamp(stamp, begun)
    count = 0
    try:
        with (
            archive.open("rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*") as members,
            tqdm(total=size, desc=archive.name, unit="B", unit_scale=True, disable=not progress) as bar,
        ):
            for member in members:
                _check_member(member, archive)
                if member.isfile():
                    _write_member(members, member, target)
                    count += 1
                bar.update(stream.tell() - bar.n)
    except (tarfile.ReadError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageFull(f"The disk is full: {archive} was unpacked to {target} up to file {count}.") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidData(
            f"{archive} is truncated or damaged after {count} file(s) ({error}). Download it again; "
            f"its published size should be larger than {size:,} bytes."
        ) from error
    _write_stamp(stamp, {**begun, "is_complete": True})


def _check_member(member: tarfile.TarInfo, archive: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in path.parts[0]:
        raise InvalidData(f"{archive} would write {member.name!r} outside its folder. Do not use this archive.")
    if not (member.isfile() or member.isdir()):
        kind = "a link" if member.issym() or member.islnk() else "a device"
        raise InvalidData(
            f"{archive}: {member.name!r} is {kind}; only plain files are unpacked. Do not use this archive."
        )


def _write_member(members: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    path = target / member.name
    if path.is_file() and path.stat().st_size == member.size:
        return
    content = members.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        shutil.copyfileobj(content, stream)


def _read_stamp(stamp: Path) -> object:
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_stamp(stamp: Path, state: dict[str, object]) -> None:
    with atomic_file(stamp) as temporary:
        temporary.write_text(json.dumps(state), encoding="utf-8")
