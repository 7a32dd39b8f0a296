"""Settings of the evaluation of translation models; torch-free."""

from typing import ClassVar

from pydantic import Field

from cloud_assets.reports.evaluation import Evaluator


class TranslationEvaluation(Evaluator):
    """Scores predicted reflectance on the test split, beside one constant colour and a linear regression."""

    family: ClassVar[str] = "translation"

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
