"""How anomaly models are evaluated; torch-free, so that tasks can declare it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.evaluation import Evaluation


class AnomalyEvaluation(BaseModel):
    """Scores an anomaly model on normal pictures that it never saw and on the anomalous ones, beside trivial rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    def evaluate(self, bundle: ModelBundle, store: PatchStore, splits: Splits, *, progress: bool = True) -> Evaluation:
        """Evaluates a trained model.

        Args:
            bundle: The model.
            store: The pictures.
            splits: Made by :class:`~cloud_assets.patches.normal_split.NormalSplit`.
            progress: Whether to show progress bars.

        Returns:
            The evaluation: test metrics by their own names, those of the best trivial rule with ``baseline_``.

        Raises:
            NoUsablePatches: If the test split lacks normal or anomalous pictures, or the patches a band of the model.
        """
        from cloud_assets.families.anomaly.evaluate import evaluate

        return evaluate(self, bundle, store, splits, progress)
