import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cloud_assets.errors import InvalidModel
from cloud_assets.inference.bundle import CARD_FILE, WEIGHTS_FILE, ModelBundle, ModelCard, Threshold
from cloud_assets.networks.specifications import AttentionUNet, EfficientNetUNet, UNet

Bundle = Callable[..., ModelBundle]


def test_what_is_saved_is_opened(make_bundle: Bundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    bundle.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD_FILE, WEIGHTS_FILE]
    opened = ModelBundle.open(tmp_path / "model")
    assert opened.card == bundle.card
    assert opened.version == bundle.version
    assert opened.size == bundle.size
    picture = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(opened.network()(picture), bundle.network()(picture))
    assert not opened.network().training


def test_channels_last_weights_are_saved_as_any_others(make_bundle: Bundle) -> None:
    bundle = make_bundle()
    network = bundle.network().to(memory_format=torch.channels_last)
    assert ModelBundle(bundle.card, network.state_dict()).version == bundle.version


def test_the_version_follows_what_the_model_answers(make_bundle: Bundle) -> None:
    bundle = make_bundle()
    assert bundle.with_card(metrics={"val_iou": 0.9}).version == bundle.version
    other = bundle.with_card(threshold=Threshold(value=0.4, method="test", unit="cloud probability"))
    assert other.version != bundle.version
    weights = bundle.state_dict()
    weights["head.bias"] += 1e-3
    assert ModelBundle(bundle.card, weights).version != bundle.version


@pytest.mark.parametrize("network", [UNet(), AttentionUNet(depth=4), EfficientNetUNet(encoder_weights="imagenet")])
def test_a_card_survives_json(make_card: Callable[..., ModelCard], network: UNet) -> None:
    card = make_card(network=network)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


def test_rebuilding_never_looks_for_pretrained_weights(
    make_bundle: Bundle, make_card: Callable[..., ModelCard], tmp_path: Path
) -> None:
    plain = make_bundle(network=EfficientNetUNet(encoder="efficientnet-b0"))
    weights = str(tmp_path / "no such file.safetensors")
    for source in ("imagenet", weights):
        card = make_card(network=EfficientNetUNet(encoder="efficientnet-b0", encoder_weights=source))
        ModelBundle(card, plain.state_dict()).network()


def test_a_card_of_another_version_is_refused(make_bundle: Bundle, tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "model")
    path = tmp_path / "model" / CARD_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(InvalidModel, match=r"schema version 99, this installation reads version 1"):
        ModelBundle.open(tmp_path / "model")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / CARD_FILE).unlink(), "there is no model here"),
        (lambda folder: (folder / CARD_FILE).write_text('{"schema_version"'), "no readable JSON"),
        (lambda folder: (folder / CARD_FILE).write_text('{"schema_version": 1}'), "not a valid model card"),
        (lambda folder: (folder / CARD_FILE).write_text("[]"), "schema version None"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "missing, damaged"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"junk"), "missing, damaged"),
        (lambda folder: _truncate(folder / WEIGHTS_FILE), "missing, damaged"),
    ],
)
def test_damage_is_told(make_bundle: Bundle, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    make_bundle().save(tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(InvalidModel, match=message) as caught:
        ModelBundle.open(tmp_path / "model")
    assert str(tmp_path) in str(caught.value)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_weights_of_another_network_are_refused(make_bundle: Bundle, make_card: Callable[..., ModelCard]) -> None:
    bundle = ModelBundle(make_card(network=UNet(width=3, depth=2)), make_bundle().state_dict())
    with pytest.raises(InvalidModel, match="different models"):
        bundle.network()


def test_a_failed_save_leaves_the_old_model(
    make_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_bundle()
    old.save(tmp_path / "model")
    new = old.with_card(variant="other")
    monkeypatch.setattr(ModelCard, "model_dump_json", lambda *args, **keywords: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        new.save(tmp_path / "model")
    monkeypatch.undo()
    assert ModelBundle.open(tmp_path / "model").card == old.card
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
