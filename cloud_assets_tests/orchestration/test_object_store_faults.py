"""An object store that refuses, is slow, or loses connections: nothing is lost, and the same write ends right."""

import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import dagster as dg
import pytest
from moto.server import ThreadedMotoServer
from upath import UPath

from cloud_assets.errors import SourceUnreachable, StorageFull
from cloud_assets.orchestration.resources import AssetFolders
from cloud_assets_tests.faulty_door import FaultyDoor

KEY = ["task", "pixels"]
SIZE = 2_000_000


class Pixels:
    """A domain object large enough to lose the connection in."""

    def __init__(self, value: int) -> None:
        self.value = value

    def save(self, directory: Path) -> None:
        (directory / "pixels.bin").write_bytes(bytes([self.value]) * SIZE)

    @classmethod
    def open(cls, directory: Path) -> Self:
        content = (directory / "pixels.bin").read_bytes()
        assert content == content[:1] * SIZE
        return cls(content[0])


@pytest.fixture
def door() -> Iterator[FaultyDoor]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield FaultyDoor(server.get_host_and_port()[1])
    server.stop()


@pytest.fixture
def manager(
    door: FaultyDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[AssetFolders]:
    # As in deploy/cluster.env.example: how often clients of the store repeat what fails.
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(getattr(request, "param", 12)))
    with door.open() as port:
        access = {"key": "any", "secret": "any", "endpoint_url": f"http://127.0.0.1:{port}"}
        bucket = uuid.uuid4().hex
        home = UPath(f"s3://{bucket}/home", **access, config_kwargs={"user_agent_extra": bucket})
        home.fs.mkdir(bucket)
        yield AssetFolders(home, tmp_path / "cache")


def write(manager: AssetFolders, value: int) -> None:
    manager.handle_output(dg.build_output_context(asset_key=KEY), Pixels(value))


def read(manager: AssetFolders) -> int | None:
    found = manager.find(KEY, Pixels)
    return None if found is None else found.value


def test_a_store_that_refuses_for_some_seconds(manager: AssetFolders, door: FaultyDoor) -> None:
    write(manager, 1)
    door.refuses = True
    back = threading.Timer(5, lambda: setattr(door, "refuses", False))
    back.start()
    write(manager, 2)
    back.join()
    assert door.refused > 1
    assert read(manager) == 2


def test_a_store_that_loses_the_connection_in_an_upload(manager: AssetFolders, door: FaultyDoor) -> None:
    write(manager, 1)
    door.loses_after = SIZE // 2
    write(manager, 2)
    assert door.loses_after is None
    assert read(manager) == 2


def test_a_slow_store(manager: AssetFolders, door: FaultyDoor) -> None:
    door.seconds = 0.05
    write(manager, 1)
    assert read(manager) == 1


@pytest.mark.parametrize("manager", [2], indirect=True)
def test_a_store_that_stays_away_leaves_the_old_version(manager: AssetFolders, door: FaultyDoor) -> None:
    write(manager, 1)
    door.refuses = True
    with pytest.raises(OSError, match="Service Unavailable"):
        write(manager, 2)
    door.refuses = False
    assert read(manager) == 1
    write(manager, 3)
    assert read(manager) == 3


def test_a_missing_bucket_is_told_and_not_made(manager: AssetFolders, tmp_path: Path) -> None:
    home = UPath("s3://misspelt/home", **manager._home.storage_options)
    mistaken = AssetFolders(home, tmp_path / "cache")
    with pytest.raises(SourceUnreachable, match=r"bucket does not exist.*CLOUD_ASSETS_HOME names the bucket"):
        write(mistaken, 1)
    assert read(mistaken) is None
    assert not home.fs.exists("misspelt")


def test_a_server_that_is_not_there_is_told(door: FaultyDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with door.open() as port:
        pass  # nothing listens there any more
    access = {"key": "any", "secret": "any", "endpoint_url": f"http://127.0.0.1:{port}"}
    nobody = AssetFolders(UPath("s3://bucket/home", **access), tmp_path / "cache")
    with pytest.raises(SourceUnreachable, match=r"Could not connect.*AWS_ENDPOINT_URL the server"):
        read(nobody)
    with pytest.raises(SourceUnreachable, match="Could not connect"):
        write(nobody, 1)


def test_a_full_cache_disk(manager: AssetFolders, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE // 2}", "tmpfs", disk]).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        write(manager, 1)
        small = AssetFolders(manager._home, disk / "cache")
        with pytest.raises(StorageFull, match=r"cannot be written \(.*No space left on device"):
            write(small, 2)
        with pytest.raises(StorageFull, match="free some space"):
            read(small)
        assert not [path for path in (disk / "cache").iterdir() if path.suffix != ".lock"], "nothing half-written"
        assert read(manager) == 1
        subprocess.run(["mount", "-o", f"remount,size={4 * SIZE}", disk], check=True)
        assert read(small) == 1
        write(small, 2)
        assert read(manager) == read(small) == 2
    finally:
        subprocess.run(["umount", disk], check=True)
