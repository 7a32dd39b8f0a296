"""How a segmentation task is evaluated; torch-free, so that tasks can declare it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from cloud_assets.families.segmentation.stitched_scenes import Cloud38StitchedScenes

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.evaluation import Evaluation


class SegmentationEvaluation(BaseModel):
    """Scores a cloud mask on the test split, cloud against clear and class by class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocols: tuple[Cloud38StitchedScenes, ...] = Field((), description="Official scores of data sets that have one.")
    batch_size: int = Field(8, ge=1, description="Patches a call of the network.")
    worst_patches: int = Field(5, ge=1, description="How many of the worst patches are shown.")
    typical_patches: int = Field(3, ge=1, description="How many patches around the middle of the ranking are shown.")
    baseline_patches: int = Field(
        1000, ge=1, description="Most training patches that the brightness baseline is fitted on."
    )

    def evaluate(self, bundle: ModelBundle, store: PatchStore, splits: Splits, *, progress: bool = True) -> Evaluation:
        """Evaluates a trained model.

        Args:
            bundle: The model.
            store: The patches, with masks.
            splits: Which of them are for testing.
            progress: Whether to show progress bars.

        Returns:
            The evaluation: test metrics by their own names, those of the validation split with ``validation_`` before
            them, the brightness threshold's with ``baseline_``, those of calling everything cloud with ``all_cloud_``,
            and the official score's with ``official_``.

        Raises:
            NoUsablePatches: If the test split holds no labelled pixel, or the patches lack a band of the model.
        """
        from cloud_assets.inference.predictor import load_predictor

        return self.evaluate_predictor(load_predictor(bundle), bundle.version, store, splits, progress=progress)

    def evaluate_predictor(
        self, predictor: Predictor, model_version: str, store: PatchStore, splits: Splits, *, progress: bool = True
    ) -> Evaluation:
        """Evaluates anything that predicts like a model: see :meth:`evaluate`.

        Args:
            predictor: Has a model card and a ``predict``.
            model_version: What the evaluation names as the model's version.
            store: The patches, with masks.
            splits: Which of them are for testing.
            progress: Whether to show progress bars.
        """
        from cloud_assets.families.segmentation.evaluate import evaluate

        return evaluate(self, predictor, model_version, store, splits, progress)
