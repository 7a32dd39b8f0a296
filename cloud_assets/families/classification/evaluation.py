"""Settings of the evaluation of coverage classifiers; torch-free."""

from typing import ClassVar

from pydantic import Field

from cloud_assets.reports.evaluator import Evaluator


class ClassificationEvaluation(Evaluator):
    """Scores coverage classes on the test split, beside rules that need no classifier at all."""

    family: ClassVar[str] = "classification"

    windows: int = Field(
        200,
        ge=1,
        description="Least number of samples; a test split with fewer patches is extended by random windows, classes "
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
