"""How a coverage classifier is evaluated; torch-free, so that tasks can declare it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.evaluation import Evaluation


class ClassificationEvaluation(BaseModel):
    """Scores coverage classes on the test split, beside rules that need no classifier at all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    windows: int = Field(
        200,
        ge=1,
        description="Least number of samples; a test split with fewer patches is eked out with random windows, classes "
        "evened out.",
    )
    window_scale: tuple[float, float] = Field(
        (0.4, 1.0), description="Smallest and largest edge of a random window, as a share of the patch's."
    )
    baseline_windows: int = Field(
        1000, ge=1, description="Least number of training samples that the brightness rule is fitted on."
    )
    calibration_bins: int = Field(10, ge=2, description="Bins of the expected calibration error.")
    mistakes: int = Field(8, ge=1, description="How many of the most confident mistakes are shown.")

    def evaluate(
        self,
        bundle: ModelBundle,
        store: PatchStore,
        splits: Splits,
        *,
        references: Mapping[str, ModelBundle] | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """Evaluates a trained model.

        Args:
            bundle: The model.
            store: The patches, with masks.
            splits: Which of them are for testing.
            references: Segmentation models by the name of their task; the coverage of their masks is a rival.
            progress: Whether to show progress bars.

        Returns:
            The evaluation: test metrics by their own names, those of the validation split with ``validation_`` before
            them, those of the best rule without a classifier with ``baseline_``.

        Raises:
            NoUsablePatches: If the test split holds no labelled patch, or the patches lack a band of the model.
        """
        from cloud_assets.inference.predictor import load_predictor

        return self.evaluate_predictor(
            load_predictor(bundle), bundle.version, store, splits, references=references, progress=progress
        )

    def evaluate_predictor(
        self,
        predictor: Predictor,
        model_version: str,
        store: PatchStore,
        splits: Splits,
        *,
        references: Mapping[str, ModelBundle] | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """Evaluates anything that predicts like a model, for example an exported one: see :meth:`evaluate`.

        Args:
            predictor: Has a model card and a ``predict``.
            model_version: What the evaluation names as the model's version.
            store: The patches, with masks.
            splits: Which of them are for testing.
            references: As above.
            progress: Whether to show progress bars.
        """
        from cloud_assets.families.classification.evaluate import evaluate

        return evaluate(self, predictor, model_version, store, splits, references or {}, progress)
