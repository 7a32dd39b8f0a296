"""Classes from digital numbers: the same for a patch alone or among others, of any size, or honestly refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloud_assets.errors import InvalidData
from cloud_assets.families import load_predictor
from cloud_assets.families.classification.predictor import REFUSED, ClassificationPredictor, decide
from cloud_assets.families.served_model import ServedModel
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.specifications import Classifier

NAMES = ("clear", "scattered", "broken", "overcast")


@pytest.fixture
def bundle(make_bundle: Callable[..., ModelBundle]) -> ModelBundle:
    return make_bundle(
        family="classification",
        network=Classifier(backbone="test_resnet", input_size=48),
        out_channels=4,
        classes=NAMES,
        threshold=None,
        details={"input_size": 48, "minimum_valid": 0.2, "boundaries": [25.0, 50.0, 75.0]},
    )


def patches(count: int, height: int = 60, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 4000, (count, 3, height, width)).astype(np.uint16)


def test_patch_gets_the_same_answer_alone_and_among_others(bundle: ModelBundle) -> None:
    predictor = load_predictor(bundle, "cpu")
    dn = patches(5)
    together = predictor.predict(dn)
    for number in range(5):
        alone = predictor.predict(dn[number : number + 1])
        assert np.array_equal(alone["class_probability"][0], together["class_probability"][number])
    assert together["class"].tolist() == together["class_probability"].argmax(axis=1).tolist()
    assert together["class_probability"].sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (20, 31), (300, 100)])
def test_any_size_will_do(bundle: ModelBundle, height: int, width: int) -> None:
    predictor = ClassificationPredictor(bundle, "cpu")
    answer = predictor.predict(patches(2, height, width))
    assert answer["class_probability"].shape == (2, 4)
    images = predictor.network_input(patches(2, height, width))
    assert images.shape == (2, 3, 48, 48)
    assert np.isfinite(images).all()
    assert answer["valid_fraction"].tolist() == [1, 1]


def test_patch_with_too_few_valid_pixels_is_refused(bundle: ModelBundle) -> None:
    dn = patches(3, 10, 10)
    dn[0, :, 2:] = 0  # 20 % valid: just enough
    dn[1, :, 2:] = 0
    dn[1, :, 0, 0] = 0
    answer = ClassificationPredictor(bundle, "cpu").predict(dn)
    assert (answer["class"] == REFUSED).tolist() == [False, True, False]
    assert np.isnan(answer["class_probability"][1]).all()
    assert np.isfinite(answer["class_probability"][[0, 2]]).all()
    assert answer["valid_fraction"].tolist() == pytest.approx([0.2, 0.19, 1.0])


def test_no_patches_no_answers(bundle: ModelBundle) -> None:
    answer = ClassificationPredictor(bundle, "cpu").predict(patches(0))
    assert answer["class"].shape == (0,)
    assert answer["class_probability"].shape == (0, 4)


def test_wrong_bands_are_refused(bundle: ModelBundle) -> None:
    with pytest.raises(InvalidData, match="3"):
        ClassificationPredictor(bundle, "cpu").predict(patches(1)[:, :2])


def test_ordered_classes_are_decided_by_the_median() -> None:
    probability = np.array([[0.4, 0.0, 0.3, 0.3], [0.6, 0.2, 0.1, 0.1], [0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    assert decide(probability, "ordinal").tolist() == [2, 0, 3, 2]
    assert decide(probability, "categorical").tolist() == [0, 0, 3, 3]


def test_served_model_tells_classes_and_their_probabilities(bundle: ModelBundle) -> None:
    answer = ServedModel(bundle).predict(np.moveaxis(patches(2), 1, -1))
    assert set(answer) == {"class", "class_probability", "valid_fraction"}


def test_another_network_can_stand_in(bundle: ModelBundle) -> None:
    class Certain(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.tensor([[0.0, 0.0, 50.0, 0.0]]).repeat(len(pixels), 1)

    assert load_predictor(bundle, "cpu", Certain()).predict(patches(2))["class"].tolist() == [2, 2]
