"""Raw data sets in an object store: copied once, and anew when anything in them has changed."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer
from upath import UPath

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.datasets.samples.sample_writer import write_sample
from cloud_assets.errors import DataNotFound, SourceUnreachable
from cloud_assets.orchestration.resources import Folders

DATASET = Cloud38()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    write_sample(folder, [DATASET.folder], scale=0.02, progress=False)
    return folder


@pytest.fixture
def address(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UPath]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()  # clients keep the address that they began with
    bucket = uuid.uuid4().hex
    raw = UPath(f"s3://{bucket}/raw")
    raw.fs.mkdir(bucket)
    raw.fs.put(str(local / DATASET.folder), (raw / DATASET.folder).path, recursive=True)
    monkeypatch.setenv("CLOUD_ASSETS_DATA", str(raw))
    monkeypatch.setenv("CLOUD_ASSETS_HOME", str(tmp_path / "home"))
    yield raw
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def test_a_data_set_at_an_address_is_the_same_catalogue_and_copied_once(local: Path, address: UPath) -> None:
    root = Folders().raw_data(DATASET, "auto", 1.0)
    assert DATASET.catalog(root, progress=False).data_version == DATASET.catalog(local, progress=False).data_version
    before = _files(root)
    assert Folders().raw_data(DATASET, "auto", 1.0) == root
    assert _files(root) == before
    assert Folders().raw_data(DATASET, "sample", 0.05).is_relative_to(Folders().working / "sample-0.05")


def test_a_changed_file_of_the_same_size_is_seen(address: UPath) -> None:
    before = Folders().raw_data(DATASET, "auto", 1.0)
    name = next(path for path in sorted(before.rglob("gt_*.TIF"))).relative_to(before).as_posix()
    content = bytearray((before / name).read_bytes())
    content[-1] ^= 1
    address.fs.pipe_file((address / name).path, bytes(content))
    after = Folders().raw_data(DATASET, "auto", 1.0)
    assert after != before
    assert (after / name).read_bytes() == bytes(content)
    assert (before / name).is_file()  # a run that reads it is not disturbed


def test_a_missing_folder_and_names_that_lead_out_are_refused(address: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    address.fs.pipe_file(f"{(address / DATASET.folder).path}/../../outside.TIF", b"any")
    with pytest.raises(DataNotFound, match=r"lead out of it.*CLOUD_ASSETS_DATA"):
        Folders().raw_data(DATASET, "auto", 1.0)
    with pytest.raises(DataNotFound, match=r"nowhere/38-cloud holds no file.*CLOUD_ASSETS_DATA"):
        Folders(data=f"{address}/nowhere").raw_data(DATASET, "auto", 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SourceUnreachable, match="CLOUD_ASSETS_DATA names the bucket"):
        Folders(data="s3://another/raw").raw_data(DATASET, "auto", 1.0)
