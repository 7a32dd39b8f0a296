"""How a translation model is evaluated; torch-free, so that tasks can declare it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.evaluation import Evaluation


class TranslationEvaluation(BaseModel):
    """Scores predicted reflectance on the test split, beside one constant colour and a linear regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(4, ge=1, description="Patches a call of the predictor.")
    data_range: float = Field(
        1.0, gt=0, description="Reflectance that PSNR and SSIM count as full scale: 1, that is reflectance 0 to 1."
    )
    display_stretch: tuple[float, float] = Field(
        (0.0, 0.3),
        description="Reflectance shown as black and as white; display_… metrics score pictures stretched like that.",
    )
    baseline_pixels: int = Field(
        200_000, ge=1000, description="Training pixels that the linear regression is fitted on."
    )
    baseline_window: int = Field(9, ge=3, description="Side of the window of its local means and variances, pixels.")
    examples: int = Field(4, ge=1, description="How many patches are shown: the worst, the best and some between.")

    def evaluate(self, bundle: ModelBundle, store: PatchStore, splits: Splits, *, progress: bool = True) -> Evaluation:
        """Evaluates a trained model.

        Args:
            bundle: The model.
            store: The pairs.
            splits: Which of them are for testing.
            progress: Whether to show progress bars.

        Returns:
            The evaluation: test metrics by their own names, those of the validation split with ``validation_`` before
            them, those of the mean colour with ``baseline_``, those of the linear regression with ``linear_``.

        Raises:
            NoUsablePatches: If the test split is empty, or the patches lack a band of the model.
        """
        from cloud_assets.inference.predictor import load_predictor

        return self.evaluate_predictor(load_predictor(bundle), bundle.version, store, splits, progress=progress)

    def evaluate_predictor(
        self, predictor: Predictor, model_version: str, store: PatchStore, splits: Splits, *, progress: bool = True
    ) -> Evaluation:
        """Evaluates anything that predicts like a translation model.

        Args:
            predictor: The model.
            model_version: What identifies it.
            store: As in :meth:`evaluate`.
            splits: As in :meth:`evaluate`.
            progress: As in :meth:`evaluate`.
        """
        from cloud_assets.families.translation.evaluate import evaluate

        return evaluate(self, predictor, model_version, store, splits, progress)
