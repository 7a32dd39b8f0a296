"""Base class of the recipes that models are trained by."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from cloud_assets.learning.optimisation import Optimisation


class Recipe(BaseModel):
    """How a variant is trained: plain data, torch-free; the family that it names trains by it.

    Each recipe declares a field ``optimisation``. It is no field of this class, for those come first in a model's JSON,
    whose order is part of a training's fingerprint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: ClassVar[str]
    """Key in :data:`cloud_assets.families.FAMILIES`."""

    if TYPE_CHECKING:
        optimisation: Optimisation
