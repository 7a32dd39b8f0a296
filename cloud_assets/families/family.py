"""What a family of models is: its declarations, and the modules of its folder that do the work."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from cloud_assets.imagery.tiling import Window

if TYPE_CHECKING:
    from types import ModuleType

    from torch import nn

    from cloud_assets.datasets.scene import Grid
    from cloud_assets.families.scene_product import ProductSettings, SceneProduct
    from cloud_assets.imagery.tiling import WindowReader
    from cloud_assets.inference.bundle import CardSection, ModelBundle
    from cloud_assets.inference.device import Parallelism
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.learning.recipe import Recipe
    from cloud_assets.learning.training_run import TrainingRun
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.doubts import Doubts
    from cloud_assets.reports.evaluation import Evaluation, Evaluator


class Family:
    """A kind of models: how they are trained, run, evaluated and applied to scenes.

    The class of a family holds its declarations and loads no torch. What loads torch lies in modules beside it, which
    are imported when they are needed: ``train`` with ``train(recipe, run)``, ``predictor`` with the class
    ``<Name>Predictor(bundle, device, network)``, ``evaluate`` with ``evaluate(evaluator, run)``, and, where labels can
    be doubted, ``doubts`` with ``doubts(predictor, store, rows, progress)``. A family is registered in
    :mod:`cloud_assets.families` by one line.
    """

    name: ClassVar[str]  # as in model cards
    recipe: "ClassVar[type[Recipe]]"  # base class of the recipes
    evaluator: "ClassVar[type[Evaluator]]"  # the settings of evaluations
    card_section: "ClassVar[type[CardSection]]"  # what only this family's model cards hold
    products: "ClassVar[tuple[SceneProduct, ...]]" = ()  # what its models make of whole scenes
    stac_task: ClassVar[str] = "regression"
    """What its models do, in the words of STAC's machine-learning-model extension."""
    not_served: ClassVar[frozenset[str]] = frozenset()
    """Parts of an answer that the others imply; a served model leaves them out."""
    why_not_exported: ClassVar[str] = ""  # why its models cannot be exported to ONNX; empty: they can

    def train(self, recipe: Any, run: "TrainingRun") -> "ModelBundle":
        """Trains on the run's patches, or goes on where an interrupted training of the same run stopped.

        Returns:
            The model with the weights that were best on validation.

        Raises:
            InvalidRecipe: If the recipe does not fit the patches.
            NoUsablePatches: If a split is empty or unlabelled.
            TrainingFailed: If the loss becomes infinite or not a number.
            InvalidModel: If pretrained weights cannot be obtained, or do not fit the network.
        """
        bundle: ModelBundle = self._module("train").train(recipe, run)
        return bundle

    def predictor(self, bundle: "ModelBundle", device: str = "auto", network: "nn.Module | None" = None) -> "Predictor":
        """Makes a model ready to predict: the one way for validation, thresholds, evaluation, scenes and serving.

        Args:
            bundle: The model.
            device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
            network: Runs in place of the bundle's own network, for example an exported form of it.

        Raises:
            InvalidModel: If the weights do not fit the card, or the card lacks something.
        """
        kind = getattr(self._module("predictor"), f"{self.name.capitalize()}Predictor")
        predictor: Predictor = kind(bundle, device, network)
        return predictor

    def evaluate(
        self,
        evaluator: Any,
        bundle: "ModelBundle",
        store: "PatchStore",
        splits: "Splits",
        *,
        predictor: "Predictor | None" = None,
        references: "Mapping[str, ModelBundle] | None" = None,
        progress: bool = True,
    ) -> "Evaluation":
        """Evaluates a model on the test split.

        Args:
            evaluator: The settings.
            bundle: The model.
            store: The labelled patches.
            splits: Which of them are for testing.
            predictor: Predicts in place of the bundle's own predictor, for example an exported form of the model.
            references: Models of other tasks to compare with, by the name of their task.
            progress: Whether to show progress bars.

        Returns:
            The evaluation: test metrics by their own names, those of the validation split with ``validation_`` before
            them, those of trivial rules with ``baseline_``.

        Raises:
            NoUsablePatches: If the test split holds nothing to score, or the patches lack a band of the model.
        """
        from cloud_assets.reports.evaluation import EvaluationRun

        splits.check_belongs_to(store)
        predictor = predictor or self.predictor(bundle)
        run = EvaluationRun(predictor, bundle.version, store, splits, references or {}, progress)
        evaluation: Evaluation = self._module("evaluate").evaluate(evaluator, run)
        return evaluation

    def predict_picture(
        self, predictor: "Predictor", reader: "WindowReader", grid: "Grid", how: "ProductSettings", share: "Parallelism"
    ) -> dict[str, npt.NDArray[Any]]:
        """Answers for one picture of any size.

        Returns:
            The answer's parts by name, without the axis of patches.
        """
        whole = reader.read(Window(0, 0, grid.height, grid.width))
        return {name: part[0] for name, part in predictor.predict(whole[np.newaxis]).items()}

    def at_operating_point(self, bundle: "ModelBundle", point: str) -> "ModelBundle":
        """A model that decides for a purpose, ``sensitive``, ``balanced`` or ``strict``; others stay as they are.

        Raises:
            InvalidRecipe: If the model's card does not offer it.
        """
        return bundle

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """Describes an answer in a few numbers, which drift is measured on.

        Returns:
            Numbers by name; empty where the model had no valid pixel.
        """
        return {}

    def labelled_rows(self, store: "PatchStore") -> npt.NDArray[np.int64]:
        """Rows of a store that have the kind of label that the family learns from."""
        return np.arange(len(store), dtype=np.int64)

    def doubts(
        self, predictor: "Predictor", store: "PatchStore", rows: npt.NDArray[np.int64], progress: bool
    ) -> "Doubts | None":
        """Compares labels with what a model predicts.

        Returns:
            The doubts; None if the family has no way to doubt a label.
        """
        if find_spec(self._module_name("doubts")) is None:
            return None
        doubts: Doubts = self._module("doubts").doubts(predictor, store, rows, progress)
        return doubts

    def _module_name(self, name: str) -> str:
        return f"{type(self).__module__.rpartition('.')[0]}.{name}"

    def _module(self, name: str) -> "ModuleType":
        return import_module(self._module_name(name))
