"""SceneModels whose answers are known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from cloud_assets.families import load_predictor
from cloud_assets.inference.card import ModelCard
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.scene_models import SceneModels
from cloud_assets_tests.scenes.fakes import FakeBackEnd, bright_is_cloud, make_bundle


@dataclass
class FakePredictor:
    """A predictor that is a function."""

    card: ModelCard
    function: Callable[[ModelCard, np.ndarray], dict[str, np.ndarray]]

    def predict(self, dn: np.ndarray) -> dict[str, np.ndarray]:
        return self.function(self.card, dn)


@pytest.fixture
def make_models(monkeypatch) -> Callable[..., SceneModels]:
    """SceneModels of the given bundles that run with functions in place of networks."""

    def make(*bundles, options: SceneOptions | None = None, logits=bright_is_cloud, **functions: Any) -> SceneModels:
        monkeypatch.setattr("cloud_assets.scenes.scene_models.choose_back_end", lambda *_, **__: FakeBackEnd(logits))
        real = load_predictor
        monkeypatch.setattr(
            "cloud_assets.scenes.scene_models.load_predictor",
            lambda bundle, *rest: (
                FakePredictor(bundle.card, functions[bundle.card.family])
                if bundle.card.family in functions
                else real(bundle, *rest)
            ),
        )
        return SceneModels(bundles or [make_bundle()], options)

    return make
