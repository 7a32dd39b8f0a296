"""Models of scenes whose answers are known."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from cloud_assets.families import FAMILIES
from cloud_assets.inference import back_ends
from cloud_assets.inference.bundle import ModelBundle, ModelCard
from cloud_assets.scenes.planning import SceneModels, SceneOptions
from cloud_assets_tests.scenes.fakes import FakeBackEnd, bright_is_cloud, make_bundle


@dataclass
class FakePredictor:
    """A predictor that is a function."""

    card: ModelCard
    function: Callable[[ModelCard, np.ndarray], dict[str, np.ndarray]]

    def predict(self, dn: np.ndarray) -> dict[str, np.ndarray]:
        return self.function(self.card, dn)


def _fake(function: Callable, bundle: ModelBundle, *_: object) -> FakePredictor:
    return FakePredictor(bundle.card, function)


@pytest.fixture
def make_models(monkeypatch) -> Callable[..., SceneModels]:
    """Models of scenes that run with functions in place of networks."""

    def make(*bundles, options: SceneOptions | None = None, logits=bright_is_cloud, **functions: Any) -> SceneModels:
        monkeypatch.setattr(back_ends, "choose_back_end", lambda *_, **__: FakeBackEnd(logits))
        for family, function in functions.items():
            monkeypatch.setattr(FAMILIES[family], "predictor", partial(_fake, function), raising=False)
        return SceneModels(bundles or [make_bundle()], options)

    return make
