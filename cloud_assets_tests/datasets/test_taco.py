"""Downloading chosen samples of a public TACO, against a server on this machine."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.datasets import taco
from cloud_assets.datasets.cloudsen12 import CloudSEN12
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.datasets.taco import ByteRange, localise, localised_path, read_range
from cloud_assets.errors import DataNotFound, InvalidData, SourceUnreachable

PARTS = ("cloudsen12-l1c.0000.part.taco", "cloudsen12-l1c.0001.part.taco")


class PublicServer(ThreadingHTTPServer):
    """Serves a folder with byte ranges, and can be told to fail."""

    folder: Path
    requests: list[str]
    failing_after: int | None = None
    ignores_ranges = False

    def address(self, name: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no news."""


class Handler(BaseHTTPRequestHandler):
    server: PublicServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def _serve(self, body: bool) -> None:
        wanted = self.headers.get("Range")
        file = self.server.folder / self.path.lstrip("/")
        if body and wanted and file.suffix == ".taco":
            self.server.requests.append(wanted)
            limit = self.server.failing_after
            if limit is not None and len(self.server.requests) > limit:
                self.close_connection = True
                return self._answer(404, b"", {})
        if not file.is_file():
            return self._answer(404, b"", {})
        data = file.read_bytes()
        if wanted is None or self.server.ignores_ranges:
            return self._answer(200, data if body else b"", {"Accept-Ranges": "bytes"}, len(data))
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        assert match
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        return self._answer(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def _answer(self, status: int, data: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data) if length is None else length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PublicServer]:
    with PublicServer(("127.0.0.1", 0), Handler) as running:
        running.folder, running.requests = tmp_path / "public", []
        running.folder.mkdir()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        monkeypatch.setattr(taco, "PUBLIC_INDEX", running.address("tacos.json"))
        monkeypatch.setattr(taco, "_ATTEMPTS", 1)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def published(server: PublicServer, taco: Callable[..., Path], sample: Callable[..., object]) -> list[object]:
    """Twelve samples in two published parts."""
    samples = [sample(f"sample {number:02d}", split="test" if number % 4 == 0 else "train") for number in range(12)]
    for part, some in zip(PARTS, (samples[:6], samples[6:]), strict=True):
        taco(server.folder / part, some)
    (server.folder / "tacos.json").write_text(json.dumps({"cloudsen12-l1c": [server.address(part) for part in PARTS]}))
    return samples


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    return root


def catalog(data_root: Path, **options: object) -> SceneCatalog:
    return CloudSEN12(expected_samples=12, **options).catalog(data_root, progress=False)  # type: ignore[arg-type]


def test_only_the_chosen_samples_are_downloaded_and_only_once(
    server: PublicServer, published: list[object], data_root: Path
) -> None:
    first = catalog(data_root, max_samples=4)
    assert len(first) == 4
    assert sum(scene.split == "test" for scene in first) == 1
    by_name = {each.name: each for each in published}  # type: ignore[attr-defined]
    for scene in first:
        image, target = by_name[scene.scene_id].pixels()
        np.testing.assert_array_equal(scene.read(list(scene.bands)), image)
        np.testing.assert_array_equal(scene.read_truth(), target)
    kept = list((data_root / "cloudsen12" / "localised").glob("*.tortilla"))
    assert len(kept) == 4
    assert sum(file.stat().st_size for file in kept) < sum((server.folder / part).stat().st_size for part in PARTS) / 2
    asked = len(server.requests)
    again = catalog(data_root, max_samples=4)
    assert len(server.requests) == asked
    assert again.data_version == first.data_version
    assert len(catalog(data_root, max_samples=6)) == 6
    assert len(server.requests) == asked + 2


def test_the_same_samples_have_the_same_version_whether_local_or_downloaded(
    server: PublicServer, published: list[object], data_root: Path, tmp_path: Path
) -> None:
    local = tmp_path / "local" / "cloudsen12"
    local.mkdir(parents=True)
    for part in PARTS:
        (local / part).write_bytes((server.folder / part).read_bytes())
    assert catalog(tmp_path / "local").data_version == catalog(data_root).data_version


def test_an_interrupted_download_goes_on_where_it_stopped_and_ends_without_network(
    server: PublicServer, published: list[object], data_root: Path
) -> None:
    assert len(catalog(data_root, max_samples=1)) == 1
    done = len(server.requests)
    server.failing_after = done + 3
    with pytest.raises(SourceUnreachable, match=r"8 of 12 samples could not be downloaded.*Run it again"):
        catalog(data_root)
    place = data_root / "cloudsen12" / "localised"
    assert len(list(place.glob("*.tortilla"))) == 4
    assert not [file for file in place.iterdir() if file.name.startswith(".")]  # nothing half-written
    server.failing_after = None
    server.requests.clear()
    assert len(catalog(data_root)) == 12
    assert len(server.requests) == 8
    server.shutdown()
    server.server_close()
    assert len(catalog(data_root)) == 12


def test_a_part_that_is_not_served_is_an_error_not_a_smaller_data_set(
    server: PublicServer, published: list[object], data_root: Path
) -> None:
    (server.folder / PARTS[1]).unlink()
    with pytest.raises(InvalidData, match=re.escape(PARTS[1])):
        catalog(data_root)
    assert not list((data_root / "cloudsen12" / "localised").glob("*"))


def test_a_public_set_of_unexpected_size_is_refused(
    server: PublicServer, published: list[object], data_root: Path
) -> None:
    with pytest.raises(InvalidData, match=r"the files hold 12 samples, the data set has 50,249"):
        CloudSEN12().catalog(data_root, progress=False)


def test_without_network_the_error_comes_at_once_and_says_what_to_do(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(taco, "PUBLIC_INDEX", f"http://127.0.0.1:{port}/tacos.json")
    start = time.monotonic()
    with pytest.raises(DataNotFound, match=r"(?s)no \*\.taco file.*CLOUD_ASSETS_DATA.*Downloading was tried"):
        catalog(data_root)
    assert time.monotonic() - start < 5
    assert list(data_root.iterdir()) == []


def test_a_server_without_byte_ranges_is_refused_before_it_sends_everything(
    server: PublicServer, published: list[object]
) -> None:
    server.ignores_ranges = True
    with pytest.raises(SourceUnreachable, match="support range requests"):
        read_range(ByteRange("a", server.address(PARTS[0]), 200, 10))


def test_samples_are_copied_from_local_files_too(tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(100)))
    samples = [ByteRange("a", str(source), 10, 5), ByteRange("../../b", str(source), 90, 10)]
    place = tmp_path / "place"
    localise(samples, place, progress=False)
    assert localised_path("a", place).read_bytes() == bytes(range(10, 15))
    assert localised_path("../../b", place).parent == place
    assert localised_path("../../b", place).read_bytes() == bytes(range(90, 100))
    with pytest.raises(SourceUnreachable, match="ends inside sample c"):
        localise([ByteRange("c", str(source), 95, 10)], place, progress=False)


def test_samples_go_to_the_cache_if_the_data_folder_cannot_be_written(
    server: PublicServer, published: list[object], data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_assets.datasets import dataset

    real = dataset.os.access
    monkeypatch.setattr(dataset.os, "access", lambda path, mode: "data" not in Path(path).parts and real(path, mode))
    found = CloudSEN12(expected_samples=12, max_samples=2).catalog(data_root, tmp_path / "cache", progress=False)
    assert len(found) == 2
    assert len(list((tmp_path / "cache" / "cloudsen12" / "localised").glob("*.tortilla"))) == 2
