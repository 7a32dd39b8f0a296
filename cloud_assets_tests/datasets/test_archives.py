"""Unpacking archives: only what is safe, resumable, each file whole."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_assets.datasets import sen12ms
from cloud_assets.datasets.sen12ms import unpack
from cloud_assets.errors import InvalidData, StorageFull


def save_archive(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for other in others:
            archive.addfile(other)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.fixture
def files() -> dict[str, bytes]:
    return {f"season/s1_{number}/p{number}.tif": os.urandom(20_000) for number in range(10)}


def contents(target: Path) -> dict[str, bytes]:
    found = [path for path in target.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(target)): path.read_bytes() for path in found}


def test_every_file_comes_out_as_it_went_in_and_only_once(tmp_path: Path, files: dict[str, bytes]) -> None:
    archive = save_archive(tmp_path / "a.tar.gz", files, special("season/empty", tarfile.DIRTYPE))
    unpack(archive, tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == files
    changed = next(path for path in (tmp_path / "out").rglob("*.tif"))
    changed.write_bytes(b"mine")
    unpack(archive, tmp_path / "out", progress=False)
    assert changed.read_bytes() == b"mine"  # complete: not looked at again


@pytest.mark.parametrize(
    "member",
    [
        special("../outside.tif", tarfile.REGTYPE),
        special("season/../../outside.tif", tarfile.REGTYPE),
        special("/tmp/outside.tif", tarfile.REGTYPE),
        special("..\\outside.tif", tarfile.REGTYPE),
        special("C:/outside.tif", tarfile.REGTYPE),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.LNKTYPE, "season/s1_0/p0.tif"),
        special("device", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type.decode()}",
)
def test_members_that_could_do_harm_are_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    archive = save_archive(tmp_path / "a.tar.gz", {}, member)
    with pytest.raises(InvalidData, match=r"a\.tar\.gz") as caught:
        unpack(archive, tmp_path / "deep" / "out", progress=False)
    assert repr(member.name) in str(caught.value)
    assert contents(tmp_path / "deep" / "out") == {}
    assert not (tmp_path / "deep" / "outside.tif").exists()
    assert not (tmp_path / "outside.tif").exists()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_archive_keeps_whole_files_and_says_so(
    tmp_path: Path, files: dict[str, bytes], truncate: Callable[..., None], share: float
) -> None:
    archive = save_archive(tmp_path / "a.tar.gz", files)
    whole = archive.read_bytes()
    truncate(archive, share)
    with pytest.raises(InvalidData, match=r"a\.tar\.gz is truncated or damaged after \d+ file"):
        unpack(archive, tmp_path / "out", progress=False)
    kept = contents(tmp_path / "out")
    assert kept.items() <= files.items()
    assert len(kept) >= int(9 * share)
    archive.write_bytes(whole)
    unpack(archive, tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == files


def test_a_file_that_is_no_archive_says_so(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    for content in (b"", b"<html>not found</html>" * 100):
        archive.write_bytes(content)
        with pytest.raises(InvalidData, match=r"a\.tar\.gz"):
            unpack(archive, tmp_path / "out", progress=False)


def test_unpacking_goes_on_after_an_interruption(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = save_archive(tmp_path / "a.tar.gz", files)
    write, written = sen12ms._write_member, []

    def interrupted(members: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(member.name)
        write(members, member, target)

    monkeypatch.setattr(sen12ms, "_write_member", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out", progress=False)
    monkeypatch.undo()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tif")}
    assert len(before) == 4
    unpack(archive, tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == files
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())


def test_a_new_version_of_an_archive_replaces_the_old_files(tmp_path: Path, files: dict[str, bytes]) -> None:
    archive = save_archive(tmp_path / "a.tar.gz", files)
    unpack(archive, tmp_path / "out", progress=False)
    newer = {name: content[::-1] for name, content in list(files.items())[:3]}
    save_archive(archive, newer)
    unpack(archive, tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == newer


def test_a_full_disk_is_told_and_leaves_no_half_file(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = save_archive(tmp_path / "a.tar.gz", files)
    copy, calls = sen12ms.shutil.copyfileobj, []

    def fill(source: io.BufferedReader, target: io.BufferedWriter) -> None:
        calls.append(source)
        if len(calls) == 3:
            target.write(b"half")
            raise OSError(28, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(sen12ms.shutil, "copyfileobj", fill)
    with pytest.raises(StorageFull, match="disk is full"):
        unpack(archive, tmp_path / "out", progress=False)
    assert len(contents(tmp_path / "out")) == 2
    assert contents(tmp_path / "out").items() <= files.items()
