"""Cloud cover of a patch as a family of models."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy.typing as npt
from pydantic import Field

from cloud_assets.families.family import Family
from cloud_assets.inference.bundle import CardSection
from cloud_assets.inference.drift_reference import rounded
from cloud_assets.learning.recipe import Optimisation, Recipe
from cloud_assets.networks.specifications import UNet
from cloud_assets.reports.evaluation import Evaluator


class CoverRecipe(Recipe):
    """A random network whose mean is moved to that of the training labels."""

    family: ClassVar[str] = "cover"

    network: UNet = Field(default_factory=lambda: UNet(width=2, depth=1))
    optimisation: Optimisation = Field(default_factory=Optimisation)


class CoverEvaluator(Evaluator):
    """Mean absolute error of the cover, as a skill: 1 is perfect."""

    family: ClassVar[str] = "cover"


class CoverSection(CardSection):
    """What is added to the network's mean."""

    offset: float


class CoverFamily(Family):
    name = "cover"
    recipe = CoverRecipe
    evaluator = CoverEvaluator
    card_section = CoverSection

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        return rounded(cover=float(answer["cover"][place]))


FAMILY = CoverFamily()
