"""Base class of the settings that models are evaluated with."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Evaluator(BaseModel):
    """How a task's models are evaluated: plain data, torch-free; the family that it names evaluates by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: ClassVar[str]
    """Key in :data:`cloud_assets.families.FAMILIES`."""
