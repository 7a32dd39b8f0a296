"""Run configuration of assets, derived from the declarations of the layers below.

Tasks, recipes and data sets are plain pydantic models that know nothing of Dagster. :func:`config_schema` shows one of
them in Dagster's launchpad, with the instance's own values as defaults; :func:`from_config` makes the model again.
"""

import functools
import hashlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import dagster as dg
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from cloud_assets.errors import InvalidRecipe

Model = TypeVar("Model")

_SCALARS: Mapping[type, Any] = {bool: bool, int: int, float: float, str: str, Path: str}


def config_schema(defaults: object) -> dict[str, dg.Field]:
    """Dagster's view of a pydantic model: one optional field for each of its own, its values as defaults.

    Where it allows one of several classes (networks, for example) the schema has the fields of the value's own class
    and, to choose another one, each class by its name: ``network: {width: 16}`` or ``network: {attention_unet: {width:
    16}}``. Constants (a ``Literal`` of one value) are left out.
    """
    return dict(_fields(type(_pydantic(defaults)), cast("BaseModel", defaults)))


def from_config(defaults: Model, config: Mapping[str, Any]) -> Model:
    """Makes the model that a run configuration describes; values that it does not name are those of ``defaults``.

    Raises:
        InvalidRecipe: If a value is not allowed; says which, by its path in the configuration.
    """
    try:
        return cast("Model", type(_pydantic(defaults)).model_validate(_merged(_pydantic(defaults), config)))
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(map(str, problem['loc'])) or '(together)'}: {problem['msg']}" for problem in error.errors()
        )
        raise InvalidRecipe(
            f"The run configuration asks for an impossible {type(defaults).__name__}:\n{problems}\n"
            "Change these values in the file given with -c, or in the launchpad."
        ) from None


def option(kind: Any, default: Any, description: str | None) -> dg.Field:
    """A field of a run configuration that no model declares."""
    return dg.Field(kind, default_value=default, is_required=False, description=description)


def _pydantic(value: object) -> BaseModel:
    if not isinstance(value, BaseModel):
        raise TypeError(f"only pydantic models can be configured, not a {type(value).__name__}.")
    return value


def _merged(defaults: BaseModel, config: Mapping[str, Any]) -> dict[str, Any]:
    fields = type(defaults).model_fields
    merged = {name: getattr(defaults, name) for name in fields}
    for name, value in config.items():
        present = merged.get(name)
        if isinstance(present, BaseModel) and isinstance(value, Mapping):
            merged[name] = _chosen(name, fields[name], present, value)
        else:
            merged[name] = value
    return merged


def _chosen(name: str, field: FieldInfo, present: BaseModel, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a nested model: of the present class, or of the one that the configuration names."""
    choices = _choices(field)
    named = [choice for choice in choices if choice in config]
    if len(named) > 1:
        raise InvalidRecipe(f"The run configuration names {' and '.join(named)} as {name}: choose one.")
    if not named:
        return _merged(present, config)
    model, values = choices[named[0]], config[named[0]]
    if isinstance(present, model):
        return _merged(present, values)
    return {str(field.discriminator): named[0], **values}


def _fields(model: type[BaseModel], values: BaseModel | None) -> Mapping[str, dg.Field]:
    """One field for each of a model's; without ``values`` those that have no default are required."""
    try:
        return _shared_fields(model, values)
    except TypeError:  # a mapping in it, which has no hash
        return _shared_fields.__wrapped__(model, values)


@functools.cache  # recipes have most of their parts in common, and Dagster takes its time for each field
def _shared_fields(model: type[BaseModel], values: BaseModel | None) -> Mapping[str, dg.Field]:
    return {
        name: _field(field, field.get_default(call_default_factory=True) if values is None else getattr(values, name))
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is not Literal or len(get_args(field.annotation)) > 1  # no constant
    }


def _field(field: FieldInfo, value: Any) -> dg.Field:
    if value is PydanticUndefined:
        return dg.Field(_config_type(field.annotation), description=field.description)
    if not isinstance(value, BaseModel):
        return option(_config_type(field.annotation), to_jsonable_python(value), field.description)
    schema = dict(_fields(type(value), value))
    for choice, model in _choices(field).items():
        own = value if type(value) is model else None
        schema[choice] = dg.Field(dict(_fields(model, own)), is_required=False, description=model.__doc__)
    return dg.Field(schema, is_required=False, description=field.description or type(value).__doc__)


def _choices(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """The classes that a field may have, by the value that tells them apart; empty where there is no choice."""
    if field.discriminator is None:
        return {}
    models: tuple[type[BaseModel], ...] = get_args(field.annotation)
    return {str(model.model_fields[str(field.discriminator)].default): model for model in models}


def _config_type(annotation: Any) -> Any:
    """The Dagster configuration type of an annotation; ``Any`` where only pydantic can tell what is allowed."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _config_type(arguments[0])
    if origin is Literal:
        if not all(isinstance(value, str) for value in arguments):
            return dg.Any
        # Dagster requires one name for each set of values, and the same set may stand in several models.
        digest = hashlib.blake2b("\n".join(arguments).encode(), digest_size=4).hexdigest()
        return dg.Enum(f"one_of_{digest}", [dg.EnumValue(value) for value in arguments])
    if origin in (Union, types.UnionType):
        present = [argument for argument in arguments if argument is not types.NoneType]
        inner = _config_type(present[0]) if len(present) == 1 else dg.Any
        return dg.Noneable(inner) if len(present) < len(arguments) else inner
    if origin in (tuple, list):
        kinds = {argument for argument in arguments if argument is not Ellipsis}
        return dg.Array(_config_type(kinds.pop())) if len(kinds) == 1 else dg.Array(dg.Any)
    if origin is not None and issubclass(origin, Mapping) and arguments[0] is str:
        # Dagster's maps take no null, which may be a value where anything may be.
        return dict if arguments[1] is Any else {str: _config_type(arguments[1])}
    return dict if isinstance(annotation, type) and issubclass(annotation, BaseModel) else dg.Any
