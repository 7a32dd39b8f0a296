import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cloud_assets.errors import InvalidModel
from cloud_assets.networks.pretrained import hub_file, load_weights, read_weights
from cloud_assets.networks.specifications import EfficientNetUNet

B0 = EfficientNetUNet(encoder="efficientnet-b0")


def with_weights(path: Path) -> EfficientNetUNet:
    return EfficientNetUNet(encoder="efficientnet-b0", encoder_weights=str(path))


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    encoder = B0.build(3, 1).encoder
    weights = {**encoder.state_dict(), "_fc.weight": torch.zeros(2, 2)}  # as published: with the classifier
    save_file(weights, tmp_path / "encoder.safetensors")
    return tmp_path / "encoder.safetensors"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cache and no name that resolves."""

    def unreachable(*_: object, **__: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty cache"))
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)


def test_offline_weights_are_refused_at_once(offline: None) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidModel, match="encoder_weights: none"):
        EfficientNetUNet(encoder_weights="imagenet").build(3, 1)
    assert time.monotonic() - started < 10


def test_forbidden_downloads_are_not_tried(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidModel, match="HF_HUB_OFFLINE"):
        hub_file("owner/name", "model.safetensors")


def test_encoder_weights_of_a_file(encoder_file: Path) -> None:
    network = with_weights(encoder_file).build(3, 1)
    expected = read_weights(encoder_file)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.encoder.state_dict().items())


def test_rgb_filters_serve_other_bands(encoder_file: Path) -> None:
    original = read_weights(encoder_file)["_conv_stem.weight"]
    for bands in (1, 4, 13):
        weight = with_weights(encoder_file).build(bands, 1).encoder.state_dict()["_conv_stem.weight"]
        assert weight.shape[1] == bands
        for band in range(bands):
            torch.testing.assert_close(weight[:, band], original[:, band % 3] * 3 / bands)


def test_weights_of_a_whole_network(tmp_path: Path) -> None:
    torch.manual_seed(2)
    trained = B0.build(4, 1).state_dict()
    save_file(trained, tmp_path / "weights.safetensors")
    rebuilt = with_weights(tmp_path / "weights.safetensors").build(4, 1).state_dict()
    assert all(torch.equal(rebuilt[name], tensor) for name, tensor in trained.items())


def test_a_torch_file_with_tensors_only(tmp_path: Path, encoder_file: Path) -> None:
    torch.save({"state_dict": read_weights(encoder_file)}, tmp_path / "encoder.pth")
    with_weights(tmp_path / "encoder.pth").build(3, 1)


def test_weights_of_another_architecture_are_refused_by_name(encoder_file: Path) -> None:
    with pytest.raises(InvalidModel, match=r"another architecture \(missing: .*_blocks") as caught:
        EfficientNetUNet(encoder="efficientnet-b2", encoder_weights=str(encoder_file)).build(3, 1)
    assert str(encoder_file) in str(caught.value)
    with pytest.raises(InvalidModel, match=r"of another shape: weight \(2, 3\) instead of \(3, 2\)"):
        load_weights(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2).state_dict(), "a file")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("unpickled",)


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weights": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InvalidModel, match=r"not a readable weights file"):
        with_weights(tmp_path / "evil.pth").build(3, 1)
    assert "unpickled" not in capsys.readouterr().out


def test_a_damaged_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(InvalidModel, match=r"junk\.safetensors"):
        with_weights(tmp_path / "junk.safetensors").build(3, 1)
    with pytest.raises(InvalidModel, match="no such weights file"):
        with_weights(tmp_path / "none.safetensors").build(3, 1)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InvalidModel, match="no state dict"):
        with_weights(tmp_path / "list.pt").build(3, 1)
