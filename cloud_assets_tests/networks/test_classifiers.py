"""Classifiers: any bands, explicit weights, ordered classes whose probabilities add up."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cloud_assets.errors import InvalidModel, InvalidRecipe
from cloud_assets.networks.classifiers import STAGES, ClassifierNetwork, class_probability, input_range, input_size
from cloud_assets.networks.specifications import Classifier

VARIANTS = {"resnet50": 224, "mobilenet": 224, "vgg16": 224, "inception_v3": 299}
TINY = "test_resnet"


def build(bands: int = 3, outputs: int = 4, **changes: object) -> ClassifierNetwork:
    network = Classifier.model_validate({"backbone": TINY, **changes}).build(bands, outputs)
    assert isinstance(network, ClassifierNetwork)
    return network.eval()


@pytest.mark.parametrize(("backbone", "size"), VARIANTS.items())
def test_variants_take_any_bands_and_their_own_size(backbone: str, size: int) -> None:
    specification = Classifier(backbone=backbone)
    assert input_size(backbone) == size
    network = specification.build(5, 4).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 5, 80, 80)).shape == (2, 4)
    # Without VGG's dense layers every variant fits into 100 megabytes.
    assert sum(parameter.numel() for parameter in network.parameters()) < 25e6


@pytest.mark.parametrize("backbone", ["mobilenet", "vgg16", "inception_v3", TINY])
def test_stages_hold_every_weight_but_the_head_once(backbone: str) -> None:
    network = Classifier(backbone=backbone).build(3, 4)
    assert isinstance(network, ClassifierNetwork)
    stages = network.stages()
    named = [name for stage in stages for name in stage]
    assert len(stages) == STAGES
    assert all(stages)
    assert len(named) == len(set(named))
    head = {name for name, _ in network.named_parameters()} - set(named)
    assert len(head) == 2
    assert {dict(network.named_parameters())[name].shape[0] for name in head} == {4}


def test_black_and_white_are_what_the_backbone_is_used_to() -> None:
    assert input_range("inception_v3") == pytest.approx((-1, 1))
    black, white = input_range("resnet50")
    assert black == pytest.approx(-0.449 / 0.226, abs=0.01)
    assert white == pytest.approx(0.551 / 0.226, abs=0.01)


def test_categorical_probabilities_are_a_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert torch.equal(class_probability(logits, "categorical"), logits.softmax(dim=1))


def test_ordinal_probabilities_follow_the_chain_rule() -> None:
    # P(>0) = 0.8, P(>1 | >0) = 0.5, P(>2 | >1) = 0.25
    logits = torch.logit(torch.tensor([[0.8, 0.5, 0.25]]))
    assert class_probability(logits, "ordinal")[0].tolist() == pytest.approx([0.2, 0.4, 0.3, 0.1])
    wild = class_probability(torch.randn(100, 5) * 10, "ordinal")
    assert wild.min() >= 0
    assert wild.sum(dim=1).numpy() == pytest.approx(1.0)


def test_unknown_backbone_is_refused_with_similar_names() -> None:
    with pytest.raises(InvalidRecipe, match="resnet50"):
        Classifier(backbone="resnet5O").build(3, 4)
    with pytest.raises(InvalidRecipe):
        input_size("no such thing")


def test_whole_network_comes_back_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = build()
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    again = build(weights=str(tmp_path / "weights.safetensors"))
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(trained(pixels), again(pixels))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_backbone_comes_from_weights_for_other_classes_and_bands(tmp_path: Path, suffix: str) -> None:
    source = build(bands=3, outputs=1000).backbone
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    network = build(bands=4, outputs=3, weights=str(path))
    known, found = source.state_dict(), network.backbone.state_dict()
    assert torch.equal(known["layer2.0.conv1.weight"], found["layer2.0.conv1.weight"])
    assert found["fc.weight"].shape[0] == 3
    assert found["conv1.0.weight"].shape[1] == 4
    # Band 4 repeats red; the sum over the input keeps its size.
    assert torch.allclose(found["conv1.0.weight"][:, 3], known["conv1.0.weight"][:, 0] * 0.75)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file(build().state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(InvalidModel, match="another architecture"):
        Classifier(backbone="test_efficientnet", weights=str(tmp_path / "weights.safetensors")).build(3, 4)


def test_weights_that_cannot_be_had_are_never_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidModel, match="no such weights file"):
        build(weights=str(tmp_path / "none.safetensors"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InvalidModel):
        build(weights="imagenet")
    # A model bundle brings its own weights: nothing is looked up.
    Classifier(backbone=TINY, weights="imagenet").build(3, 4, pretrained=False)
