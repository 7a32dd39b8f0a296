"""Settings of the evaluation of anomaly models; torch-free."""

from typing import ClassVar

from pydantic import Field

from cloud_assets.reports.evaluation import Evaluator


class AnomalyEvaluation(Evaluator):
    """Scores an anomaly model on normal pictures that it never saw and on the anomalous ones, beside trivial rules."""

    family: ClassVar[str] = "anomaly"

    hard_prefixes: tuple[str, ...] = Field(
        ("snow", "sand", "glint", "salt", "SnowIce"),
        description="File names of normal pictures that are easily taken for clouds begin with one of these.",
    )
    shown: int = Field(4, ge=1, description="How many pictures of each kind the panels show.")
    outlier_deviations: float = Field(
        5.0,
        gt=0,
        description="Pictures of the training and validation normals that lie this many robust deviations above their "
        "median are listed as suspicious: a cloudy picture may have got among them.",
    )
