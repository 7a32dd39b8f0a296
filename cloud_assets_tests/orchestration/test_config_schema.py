"""Run configuration: what the launchpad shows, and the way back to a validated model."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import dagster as dg
import pytest
from pydantic import BaseModel, Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.networks.specifications import AttentionUNet
from cloud_assets.orchestration.config_schema import config_schema, from_config
from cloud_assets.tasks import ALL_TASKS


class Small(BaseModel, frozen=True):
    kind: Literal["small"] = "small"
    width: int = Field(8, ge=1, description="Channels.")


class Large(BaseModel, frozen=True):
    kind: Literal["large"] = "large"
    encoder: Literal["a", "b"] = "a"


class Recipe(BaseModel, frozen=True, extra="forbid"):
    network: Annotated[Small | Large, Field(discriminator="kind")] = Large()
    clip: tuple[float, float] = (0.0, 0.4)
    bands: tuple[str, ...] | None = None
    weights: Mapping[str, float] = {}
    seed: Annotated[int, Field(ge=0)] | None = 3
    share: float | Literal["auto"] = "auto"
    mode: Literal["p", "q"] | None = "p"
    parts: tuple[Small, ...] = (Small(width=2),)

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if self.clip[0] >= self.clip[1]:
            raise InvalidRecipe("clip must rise.")
        return self


def configured(defaults: BaseModel, config: Mapping[str, Any]) -> Any:
    """Takes a configuration through Dagster's own validation and back to the model."""
    seen = {}

    @dg.op(config_schema=config_schema(defaults))
    def body(context: dg.OpExecutionContext) -> None:
        seen["model"] = from_config(defaults, context.op_config)

    @dg.job
    def job() -> None:
        body()

    job.execute_in_process(run_config={"ops": {"body": {"config": dict(config)}}} if config else None)
    return seen["model"]


def test_without_configuration_the_defaults_come_back() -> None:
    for defaults in (Recipe(), Recipe(network=Small(width=5), bands=("red",), weights={"iou": 0.5}, mode=None)):
        assert configured(defaults, {}) == defaults


def test_values_of_every_kind_can_be_changed() -> None:
    config = {
        "network": {"encoder": "b"},
        "clip": [0.1, 0.5],
        "bands": ["red", "nir"],
        "weights": {"f1": 1.0},
        "seed": None,
        "share": 0.5,
        "mode": "q",
        "parts": [{"width": 7}, {"width": 9}],
    }
    assert configured(Recipe(), config) == Recipe(
        network=Large(encoder="b"),
        clip=(0.1, 0.5),
        bands=("red", "nir"),
        weights={"f1": 1.0},
        seed=None,
        share=0.5,
        mode="q",
        parts=(Small(width=7), Small(width=9)),
    )


def test_the_rest_of_a_nested_model_keeps_its_values() -> None:
    class Outer(BaseModel):
        inner: Recipe = Recipe(clip=(0.2, 0.3))

    assert configured(Outer(), {"inner": {"seed": 9}}) == Outer(inner=Recipe(clip=(0.2, 0.3), seed=9))


@pytest.mark.parametrize(
    "config",
    [{"unknown": 1}, {"network": {"width": 4}}, {"network": {"encoder": "c"}}, {"seed": "many"}, {"clip": 3}],
)
def test_dagster_refuses_what_does_not_fit(config: Mapping[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        configured(Recipe(), config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"parts": [{"width": 0}]}, "parts.0.width"),
        ({"clip": [0.5, 0.1]}, "clip must rise"),
        ({"share": "never"}, "share"),
    ],
)
def test_an_impossible_value_is_named_by_its_path(config: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InvalidRecipe, match=said):
        configured(Recipe(), config)


@pytest.mark.parametrize(
    ("config", "network"),
    [
        ({"small": {"width": 3}}, Small(width=3)),
        ({"small": {}}, Small()),
        ({"large": {}}, Large(encoder="b")),
        ({"encoder": "a"}, Large(encoder="a")),
        ({}, Large(encoder="b")),
    ],
)
def test_another_class_of_a_union_is_chosen_by_its_name(config: Mapping[str, Any], network: BaseModel) -> None:
    assert configured(Recipe(network=Large(encoder="b")), {"network": config}).network == network


def test_one_class_of_a_union_is_chosen() -> None:
    with pytest.raises(InvalidRecipe, match="small and large as network"):
        configured(Recipe(), {"network": {"small": {}, "large": {}}})


def test_a_run_may_train_another_network() -> None:
    (task,) = (task for task in ALL_TASKS if task.name == "landsat_segmentation")
    recipe = configured(task.variants["unet"], {"network": {"attention_unet": {"width": 8}}})
    assert recipe.network == AttentionUNet(width=8)
    assert recipe.optimisation == task.variants["unet"].optimisation


def test_descriptions_and_defaults_are_shown() -> None:
    field = config_schema(Small(width=5))["width"]
    assert field.description == "Channels."
    assert field.default_value == 5
    assert "kind" not in config_schema(Small())


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task.name)
def test_every_declaration_of_every_task_survives_the_round_trip(task: Any) -> None:
    for declaration in (task.dataset, task.patches, task.split, task.evaluation, *task.variants.values()):
        assert configured(declaration, {}) == declaration


def test_only_pydantic_models_are_taken() -> None:
    with pytest.raises(TypeError, match="pydantic"):
        config_schema(object())
