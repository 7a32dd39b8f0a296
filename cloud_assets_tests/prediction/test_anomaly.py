from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from cloud_assets.errors import InvalidData, InvalidModel
from cloud_assets.families.anomaly.predictor import AnomalyPredictor
from cloud_assets.families.anomaly.recipe import AnomalySection, LatentReference
from cloud_assets.families.anomaly.scores import (
    discrimination_scores,
    latent_reference,
    pooled,
    reconstruction_scores,
)
from cloud_assets.inference.bundle import ModelBundle, ModelCard, Threshold
from cloud_assets.networks.specifications import ConvAutoencoder, UNet
from cloud_assets.patches.preprocessing import Preprocessing


@pytest.fixture
def bundle(make_card: Callable[..., ModelCard]) -> ModelBundle:
    card = make_card(
        family="anomaly",
        network=ConvAutoencoder(width=8),
        out_channels=3,
        preprocessing=Preprocessing(instrument="rgb_8bit", bands=("red", "green", "blue")),
        classes=("normal", "anomalous"),
        threshold=Threshold(value=0.3, method="test", unit="rmse"),
        details={"score": "rmse", "input_size": 48, "latent": {"mean": [0.0] * 8, "std": [1.0] * 8}},
    )
    torch.manual_seed(0)
    return ModelBundle(card, card.network.build(3, 3).state_dict())


def some_pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (count, 3, height, width)).astype(np.uint8)


class Fixed(torch.nn.Module):
    """An autoencoder that adds a tenth to everything."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decoder(self, latent: torch.Tensor) -> torch.Tensor:
        return latent + 0.1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1] * 20 - 10


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity of pictures (C, H, W) as Wang et al. 2004 define it, in double precision."""

    def blurred(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(pixels.astype(np.float64), (0, 1.5, 1.5), radius=(0, 5, 5)))

    x, y = blurred(first), blurred(second)
    x2, y2 = blurred(first.astype(np.float64) ** 2) - x * x, blurred(second.astype(np.float64) ** 2) - y * y
    xy = blurred(first.astype(np.float64) * second) - x * y
    ratio = (2 * x * y + 1e-4) * (2 * xy + 9e-4) / ((x * x + y * y + 1e-4) * (x2 + y2 + 9e-4))
    return np.asarray(ratio)


def test_scores_by_reconstruction_are_those_of_their_definitions() -> None:
    images = torch.rand(2, 3, 32, 32) * 0.8
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    valid[0, :16] = False
    images = images * valid[:, None]
    latent = LatentReference(mean=(0.4,) * 3, std=(0.1,) * 3)
    section = AnomalySection(score="rmse", input_size=32, latent=latent)
    scores = reconstruction_scores(Fixed(), images, valid, section)
    np.testing.assert_allclose(scores["rmse"].score, [0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(scores["mae"].score, [0.1, 0.1], rtol=1e-4)
    assert float(scores["rmse"].error_map[0, :16].abs().max()) == 0
    first, second = images[1].numpy(), images[1].numpy() + np.float32(0.1)
    inside = (slice(None), slice(8, -8), slice(8, -8))  # far from the edges, where conventions differ
    expected = (1 - similarity(first, second)[inside].mean()) / 2
    found = scores["dissimilarity"].error_map[1].numpy()[inside[1:]].mean()
    assert found == pytest.approx(expected, abs=1e-4)
    mean = images[1].mean(dim=(1, 2))
    assert float(scores["latent_distance"].score[1]) == pytest.approx(
        float((((mean - 0.4) / 0.1) ** 2).mean().sqrt()), rel=1e-3
    )


def test_score_by_discrimination_is_the_mean_of_the_highest_share() -> None:
    images = torch.zeros(1, 3, 10, 10)
    images[0, 0, 0, :5] = 1
    valid = torch.ones(1, 10, 10, dtype=torch.bool)
    section = AnomalySection(score="cloud_likeness", input_size=32, top_share=0.1)
    half = discrimination_scores(Fixed(), images, valid, section)["cloud_likeness"]
    assert float(half.score[0]) == pytest.approx(0.5, abs=1e-3)
    valid[0, 0, :5] = False  # what is bright has no data
    none = discrimination_scores(Fixed(), images, valid, section)["cloud_likeness"]
    assert float(none.score[0]) < 1e-3


def test_dead_channels_do_not_dominate_the_latent_distance() -> None:
    codes = torch.rand(20, 3)
    codes[:, 0] = 0
    assert latent_reference(codes).std[0] > 0.01
    assert pooled(torch.ones(1, 2, 4, 4), torch.ones(1, 16, 16, dtype=torch.bool)).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("shape", [(48, 48), (31, 77), (100, 60)])
def test_pictures_of_any_size(bundle: ModelBundle, shape: tuple[int, int]) -> None:
    answer = AnomalyPredictor(bundle).predict(some_pictures(2, *shape))
    assert answer["error_map"].shape == (2, *shape)
    assert answer["score"].shape == (2,)
    assert np.isfinite(answer["error_map"]).all()
    np.testing.assert_array_equal(answer["is_anomaly"], answer["score"] >= 0.3)
    np.testing.assert_array_equal(answer["score"], answer["rmse"])


def test_a_score_does_not_depend_on_its_company(bundle: ModelBundle) -> None:
    predictor = AnomalyPredictor(bundle)
    dn = some_pictures(3, 48, 48)
    np.testing.assert_array_equal(predictor.predict(dn)["score"][2:], predictor.predict(dn[2:])["score"])


def test_nodata_is_masked(bundle: ModelBundle) -> None:
    dn = some_pictures(2, 48, 48)
    dn[0, :, :10] = 0
    dn[1] = 0
    answer = AnomalyPredictor(bundle).predict(dn)
    assert np.isnan(answer["error_map"][0, :10]).all()
    assert np.isfinite(answer["error_map"][0, 10:]).all()
    assert np.isnan(answer["score"][1])
    assert not answer["is_anomaly"][1]


def test_a_constant_picture_has_a_score(bundle: ModelBundle) -> None:
    assert np.isfinite(AnomalyPredictor(bundle).predict(np.full((1, 3, 48, 48), 255, np.uint8))["score"]).all()


def test_only_autoencoders_reconstruct(bundle: ModelBundle, make_card: Callable[..., ModelCard]) -> None:
    made = AnomalyPredictor(bundle).reconstruct(some_pictures(1, 48, 48))
    assert made is not None
    assert made.shape == (1, 3, 48, 48)
    details: dict[str, Any] = {"score": "cloud_likeness", "top_share": 0.1, "input_size": 48}
    card = make_card(family="anomaly", network=UNet(width=2, depth=2), details=details)
    other = ModelBundle(card, card.network.build(3, 1).state_dict())
    assert AnomalyPredictor(other).reconstruct(some_pictures(1, 48, 48).astype(np.uint16)) is None


def test_wrong_input_and_unknown_scores_are_told(bundle: ModelBundle) -> None:
    with pytest.raises(InvalidData, match="3"):
        AnomalyPredictor(bundle).predict(np.zeros((1, 2, 48, 48), np.uint8))
    with pytest.raises(InvalidModel, match="rmse"):
        AnomalyPredictor(bundle.with_card(details={**bundle.card.details, "score": "magic"}))
