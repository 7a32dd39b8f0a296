import pytest
import torch

from cloud_assets.learning.callbacks import rate_factor
from cloud_assets.learning.fit import build_optimiser
from cloud_assets.learning.recipe import Optimisation


@pytest.mark.parametrize(
    ("scheduler", "factors"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.0]),
        ("cosine", [1.0, 0.853553, 0.5, 0.0]),
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("plateau", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_known_factors(scheduler: str, factors: list[float]) -> None:
    recipe = Optimisation(scheduler=scheduler)
    assert [rate_factor(recipe, progress) for progress in (0, 0.25, 0.5, 1)] == pytest.approx(factors, abs=1e-6)


def test_the_decay_may_start_late() -> None:
    recipe = Optimisation(scheduler="linear", decay_start=0.5)
    assert [rate_factor(recipe, progress) for progress in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]


def test_one_cycle_rises_then_falls() -> None:
    recipe = Optimisation(scheduler="one_cycle")
    factors = [rate_factor(recipe, step / 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.04)
    assert factors[30] == pytest.approx(1)
    assert factors[100] == pytest.approx(0, abs=1e-9)
    assert factors[:31] == sorted(factors[:31])
    assert factors[30:] == sorted(factors[30:], reverse=True)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_every_optimiser_descends(name: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = build_optimiser([weight], Optimisation(optimiser=name, learning_rate=0.01, weight_decay=0))
    assert optimiser.param_groups[0]["lr"] == 0.01
    weight.square().sum().backward()
    optimiser.step()
    assert float(weight) < 1
