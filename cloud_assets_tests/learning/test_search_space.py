"""Search spaces: paths into recipes, checked before the first trial."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_assets.errors import InvalidRecipe
from cloud_assets.learning.search_space import Choice, FloatRange, IntegerRange, SearchSpace, with_parameters


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float = Field(default=0.1, gt=0, le=1)
    size: int = 4


class Outer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    inner: Inner = Inner()
    name: str | None = None


def test_parameters_reach_nested_fields_and_leave_the_recipe_alone() -> None:
    base = Outer()
    changed = with_parameters(base, {"inner.rate": 0.5, "name": "x"})
    assert changed == Outer(inner=Inner(rate=0.5, size=4), name="x")
    assert base == Outer()


@pytest.mark.parametrize(
    ("path", "message"),
    [("inner.speed", "rate, size"), ("outer", "inner, name"), ("inner.rate.x", "no fields"), ("name.x", "no fields")],
)
def test_unknown_path_is_refused_with_what_there_is(path: str, message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        with_parameters(Outer(), {path: 1})


def test_value_that_the_recipe_refuses_is_found_before_any_trial() -> None:
    with pytest.raises(InvalidRecipe, match=r"inner\.rate = 2\.0"):
        SearchSpace({"inner.rate": FloatRange(low=0.1, high=2.0)}).check(Outer())
    with pytest.raises(InvalidRecipe, match="empty"):
        SearchSpace({}).check(Outer())
    SearchSpace({"inner.rate": FloatRange(low=0.1, high=1.0), "inner.size": IntegerRange(low=1, high=9)}).check(Outer())


def test_digest_tells_spaces_apart_but_not_their_order() -> None:
    rate, size = FloatRange(low=0.1, high=1.0), IntegerRange(low=1, high=9)
    one = SearchSpace({"inner.rate": rate, "inner.size": size})
    assert one.digest == SearchSpace({"inner.size": size, "inner.rate": rate}).digest
    assert one.digest != SearchSpace({"inner.rate": rate, "inner.size": IntegerRange(low=1, high=8)}).digest
    assert one.digest != SearchSpace({"inner.rate": FloatRange(low=0.1, high=1.0, log=True), "inner.size": size}).digest


def test_own_values_outside_the_space_are_left_out() -> None:
    space = SearchSpace({"inner.rate": FloatRange(low=0.2, high=1.0), "inner.size": Choice(options=(4, 8))})
    assert space.values_of(Outer()) == {"inner.size": 4}
    assert not Choice(options=(True, False)).holds(1)
    assert not IntegerRange(low=0, high=3).holds(1.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FloatRange(low=1, high=1),
        lambda: FloatRange(low=0, high=1, log=True),
        lambda: IntegerRange(low=0, high=8, log=True),
        lambda: Choice(options=("only",)),
    ],
)
def test_impossible_dimensions_are_refused(make: object) -> None:
    with pytest.raises(ValidationError):
        make()  # type: ignore[operator]


def test_space_survives_json() -> None:
    space = SearchSpace(
        {
            "inner.rate": FloatRange(low=0.1, high=1.0),
            "name": Choice(options=(None, "a")),
            "x": Choice(options=(1, True)),
        }
    )
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space
