"""Settings of the evaluation of segmentation models; torch-free."""

from typing import ClassVar

from pydantic import Field

from cloud_assets.families.segmentation.stitched_scenes import Cloud38StitchedScenes
from cloud_assets.reports.evaluator import Evaluator


class SegmentationEvaluation(Evaluator):
    """Scores a cloud mask on the test split, cloud against clear and class by class."""

    family: ClassVar[str] = "segmentation"

    protocols: tuple[Cloud38StitchedScenes, ...] = Field((), description="Official scores of data sets that have one.")
    batch_size: int = Field(8, ge=1, description="Patches a call of the network.")
    worst_patches: int = Field(5, ge=1, description="How many of the worst patches are shown.")
    typical_patches: int = Field(3, ge=1, description="How many patches around the middle of the ranking are shown.")
    baseline_patches: int = Field(
        1000, ge=1, description="Most training patches that the brightness baseline is fitted on."
    )
