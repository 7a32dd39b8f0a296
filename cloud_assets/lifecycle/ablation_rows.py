"""The trainings of an ablation: each done once, all judged on the same patches."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_assets.families.segmentation.ablation_recipe import AblationRecipe, seeded
from cloud_assets.families.segmentation.mask_rules import MaskRule, ModelMask
from cloud_assets.families.segmentation.mask_scores import PLACES, MaskScores, score_masks
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import load_predictor
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.lifecycle.ablation_result import ScoredRow
from cloud_assets.lifecycle.training import MODEL_FOLDER, workspace_of
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.storage import atomic_file

if TYPE_CHECKING:
    import numpy.typing as npt

ABLATION = "ablation"
"""Name of the asset, and of the folder of its workspaces."""
_JUDGING_SEED = 2_000_003
"""Seed of the simulated patches that rows are judged on; no training and no choice of a threshold sees them."""


@dataclass(frozen=True)
class Judge:
    """The patches that every row is judged on."""

    store: PatchStore
    """The labelled patches."""
    splits: Splits
    """Their splits."""
    simulated: PatchStore
    """Simulated patches that no training sees."""
    bright_ground: float
    """Mean visible reflectance from which clear ground is bright."""

    @classmethod
    def on(
        cls, store: PatchStore, splits: Splits, base: Segmentation, recipe: AblationRecipe, folder: Path, progress: bool
    ) -> "Judge":
        """Makes ready the splits and the simulated patches, which are cached in ``folder``."""
        role = store.roles[IMAGES]
        simulated = simulated_store(
            folder / ".simulated",
            instrument=role.instrument,
            bands=role.bands,
            size=min(base.crop or role.shape[1], *role.shape[1:]),
            count=recipe.judged_patches,
            seed=_JUDGING_SEED,
            recipe=base.simulation,
            progress=progress,
        )
        return cls(store, splits, simulated, recipe.bright_ground)

    def version(self) -> str:
        """Changes when scores have to be made anew."""
        return f"{self.simulated.data_version} {self.bright_ground} {sorted(PLACES)}"

    def scores(self, rule: MaskRule) -> dict[str, MaskScores]:
        """Counts by the name of the set."""
        parts = {name: self._real(rule, self.splits.indices(name)) for name in ("train", "validation", "test")}
        simulated = self._scored(rule, self.simulated, np.arange(len(self.simulated)))
        return {
            "hardened": parts["validation"] + simulated,
            "validation": parts["validation"],
            "test": parts["test"],
            "all": parts["train"] + parts["validation"] + parts["test"],
        }

    def _real(self, rule: MaskRule, indices: "npt.NDArray[np.int64]") -> MaskScores:
        return self._scored(rule, self.store, indices)

    def _scored(self, rule: MaskRule, store: PatchStore, indices: "npt.NDArray[np.int64]") -> MaskScores:
        return score_masks(rule, store, indices, bright_ground=self.bright_ground)


@dataclass(frozen=True)
class RowTrainer:
    """Trains rows, each once."""

    task: str
    recipe: AblationRecipe
    store: PatchStore
    splits: Splits
    folder: Path
    judge: Judge
    tell: Callable[[str], None]
    progress: bool

    def scored(self, name: str, kind: str, row: Segmentation, seed: int, patches: int | None = None) -> ScoredRow:
        """Trains and judges one row with one seed, unless that was done before."""
        recipe = seeded(row, seed)
        workspace = self._workspace(recipe)
        is_new = not (workspace / MODEL_FOLDER).is_dir()
        bundle = self._trained(recipe)
        scores = kept_scores(workspace / "scores.json", bundle.version, self.judge, lambda: self._rule(bundle))
        card = bundle.card
        threshold = card.threshold.value if card.threshold is not None else float("nan")
        result = ScoredRow(name, kind, seed, patches, card.training.seconds, threshold, scores)
        reached = ", ".join(
            f"{where} IoU {one.metrics().get('iou', float('nan')):.3f}" for where, one in scores.items()
        )
        self.tell(f"{name}, seed {seed} ({'trained' if is_new else 'kept'}): {reached}")
        return result

    def rule(self, recipe: Segmentation) -> MaskRule:
        """The trained model of a row as a rule."""
        return self._rule(self._trained(recipe))

    def peer(self, name: str, rule: MaskRule) -> ScoredRow:
        """Judges a rule that needs no training, unless that was done before."""
        version = f"{rule!r} {self.store.data_version} {self.splits.data_version}"
        digest = hashlib.blake2b(version.encode(), digest_size=8).hexdigest()
        file = self.folder / self.task / ABLATION / "peers" / f"{digest}.json"
        scores = kept_scores(file, version, self.judge, lambda: rule)
        return ScoredRow(name, "peer", None, None, 0.0, float("nan"), scores)

    def _rule(self, bundle: ModelBundle) -> MaskRule:
        return ModelMask(load_predictor(bundle), self.store.roles[IMAGES])

    def _workspace(self, recipe: Segmentation) -> Path:
        return workspace_of(self.folder, self.task, ABLATION, fingerprint(recipe, self.store, self.splits))

    def _trained(self, recipe: Segmentation) -> ModelBundle:
        workspace = self._workspace(recipe)
        finished = workspace / MODEL_FOLDER
        if not finished.is_dir():
            run = TrainingRun(
                self.task, ABLATION, self.store, self.splits, workspace,
                progress=self.progress, cache=self.folder / ".simulated",
            )  # fmt: skip
            recipe.train(run).save(finished)
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        return ModelBundle.open(finished)


def kept_scores(file: Path, version: str, judge: Judge, rule: Callable[[], MaskRule]) -> dict[str, MaskScores]:
    """Scores from a file; made and kept there the first time.

    Args:
        file: The file.
        version: Of the rule; scores of another one are made anew.
        judge: The patches.
        rule: Makes the rule, where it is needed.
    """
    expected = f"{version} {judge.version()}"
    if file.is_file():
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] == expected:
            return {name: MaskScores.from_json(one) for name, one in content["scores"].items()}
    scores = judge.scores(rule())
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as path:
        kept = {"version": expected, "scores": {name: one.as_json() for name, one in scores.items()}}
        path.write_text(json.dumps(kept), encoding="utf-8")
    return scores
