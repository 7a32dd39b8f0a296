"""Runs a task's ablation: trains each row once with each seed, and judges all rows alike."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_assets.errors import InvalidRecipe
from cloud_assets.evaluation.ablation import Ablation, ScoredRow, tabulated
from cloud_assets.evaluation.ablation_figures import (
    CAPTIONS,
    change_panels,
    curve_figure,
    greatest_changes,
    iou_bars,
)
from cloud_assets.evaluation.mask_rules import MaskRule, ModelMask, UkisMask
from cloud_assets.evaluation.mask_scores import PLACES, MaskScores, score_masks
from cloud_assets.evaluation.segmentation_baselines import fit_brightness_threshold
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.prediction.bundle import ModelBundle
from cloud_assets.prediction.predictor import load_predictor
from cloud_assets.storage import atomic_file
from cloud_assets.tasks.task import Task
from cloud_assets.tasks.training import MODEL_FOLDER, workspace_of
from cloud_assets.training.ablation_recipe import PLAIN, AblationRecipe, seeded
from cloud_assets.training.recipes import Segmentation
from cloud_assets.training.run import TrainingRun, fingerprint

if TYPE_CHECKING:
    import numpy.typing as npt

ABLATION = "ablation"
"""Name of the asset, and of the folder of its workspaces."""
_JUDGING_SEED = 2_000_003
"""Seed of the simulated patches that rows are judged on; no training and no choice of a threshold sees them."""
_BASELINE_PATCHES = 1000


def taken_apart(task: Task, recipe: AblationRecipe) -> tuple[str, Segmentation]:
    """The variant whose recipe is taken apart, and that recipe.

    Raises:
        InvalidRecipe: If the task has no such variant, or it is no segmentation.
    """
    variant = recipe.variant or next(iter(task.variants))
    base = task.variants.get(variant)
    if not isinstance(base, Segmentation):
        known = ", ".join(name for name, one in task.variants.items() if isinstance(one, Segmentation)) or "none"
        raise InvalidRecipe(
            f"{task.name} has no variant {variant!r} that segments; those that do: {known}. Ablations are made of "
            "segmentation recipes."
        )
    return variant, base


def ablate(
    task: Task,
    recipe: AblationRecipe,
    store: PatchStore,
    splits: Splits,
    folder: Path,
    *,
    tell: Callable[[str], None],
    progress: bool = True,
) -> Ablation:
    """Trains and judges all rows, or goes on where an interrupted ablation stopped.

    A finished training is never done again: its workspace is named by the fingerprint of recipe, patches and splits.

    Args:
        task: A segmentation task.
        recipe: The ablation.
        store: The labelled patches.
        splits: Their splits. The test split decides nothing: it is looked at once a training.
        folder: Where workspaces and simulated patches are kept.
        tell: Called with one sentence after each training.
        progress: Show progress bars.

    Returns:
        The ablation.

    Raises:
        InvalidRecipe: If a row's recipe is impossible.
        CloudAssetsError: Whatever a training raises.
    """
    variant, base = taken_apart(task, recipe)
    judge = _Judge.on(store, splits, base, recipe, folder, progress)
    trainer = _Trainer(task.name, recipe, store, splits, folder, judge, tell, progress)
    rows = recipe.rows(base)
    scored = [trainer.scored(name, "row", row, seed) for name, row in rows.items() for seed in recipe.seeds]
    scored += [
        trainer.scored(f"simulation only, {count}", "curve", row, seed, count)
        for count, row in recipe.curve_rows(base).items()
        for seed in recipe.curve_seeds
    ]
    peers = dict(_peers(recipe, store, splits))
    scored += [
        ScoredRow(name, "peer", None, None, 0.0, float("nan"), judge.scores(rule)) for name, rule in peers.items()
    ]
    tables = tabulated(scored)
    first = {name: trainer.rule(seeded(row, recipe.seeds[0])) for name, row in rows.items()}
    shown = np.concatenate([splits.indices("validation"), splits.indices("test")])
    shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), recipe.shown_patches)).astype(np.int64)]
    figures = {
        "iou": iou_bars(tables["trainings"]),
        "changes": change_panels(greatest_changes(first, store, shown), store),
    }
    if "curve" in tables:
        known = {one.row: one.scores["all"].metrics().get("iou") for one in scored if one.kind == "peer"}
        figures["curve"] = curve_figure(tables["curve"], {name: iou for name, iou in known.items() if iou is not None})
    return Ablation(
        task=task.name,
        variant=variant,
        tables=tables,
        recipe=recipe.model_dump(mode="json"),
        patches_version=store.data_version,
        splits_version=splits.data_version,
        is_synthetic=store.is_synthetic,
        figures={name: picture for name, picture in figures.items() if picture is not None},
        captions=CAPTIONS,
        notes=_notes(recipe, store, splits, "ukis-csmask" in peers),
    )


@dataclass(frozen=True)
class _Judge:
    """The patches that every row is judged on."""

    store: PatchStore
    splits: Splits
    simulated: PatchStore
    bright_ground: float

    @classmethod
    def on(
        cls, store: PatchStore, splits: Splits, base: Segmentation, recipe: AblationRecipe, folder: Path, progress: bool
    ) -> "_Judge":
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
class _Trainer:
    """Trains rows, each once."""

    task: str
    recipe: AblationRecipe
    store: PatchStore
    splits: Splits
    folder: Path
    judge: _Judge
    tell: Callable[[str], None]
    progress: bool

    def scored(self, name: str, kind: str, row: Segmentation, seed: int, patches: int | None = None) -> ScoredRow:
        """Trains and judges one row with one seed, unless that was done before."""
        recipe = seeded(row, seed)
        workspace = self._workspace(recipe)
        is_new = not (workspace / MODEL_FOLDER).is_dir()
        bundle = self._trained(recipe)
        scores = self._kept_scores(workspace, bundle)
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
        return ModelMask(load_predictor(self._trained(recipe)), self.store.roles[IMAGES])

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

    def _kept_scores(self, workspace: Path, bundle: ModelBundle) -> dict[str, MaskScores]:
        """Scores from the workspace; made and kept there the first time."""
        file = workspace / "scores.json"
        version = f"{bundle.version} {self.judge.version()}"
        if file.is_file():
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if content["version"] == version:
                return {name: MaskScores.from_json(one) for name, one in content["scores"].items()}
        scores = self.judge.scores(ModelMask(load_predictor(bundle), self.store.roles[IMAGES]))
        with atomic_file(file) as path:
            kept = {"version": version, "scores": {name: one.as_json() for name, one in scores.items()}}
            path.write_text(json.dumps(kept), encoding="utf-8")
        return scores


def _peers(recipe: AblationRecipe, store: PatchStore, splits: Splits) -> Iterator[tuple[str, MaskRule]]:
    """The other rules of the table that can be had."""
    if "brightness" in recipe.peers:
        fitted = fit_brightness_threshold(store, splits.indices("train"), _BASELINE_PATCHES)
        if fitted is not None:
            yield "brightness threshold", fitted
    if "ukis_csmask" in recipe.peers:
        peer = UkisMask.fitting(store.roles[IMAGES])
        if peer is not None:
            yield "ukis-csmask", peer


def _notes(recipe: AblationRecipe, store: PatchStore, splits: Splits, has_ukis: bool) -> list[str]:
    counts = {name: len(splits.indices(name)) for name in ("train", "validation", "test")}
    steps = recipe.epochs * recipe.steps_per_epoch
    notes = [
        f"{counts['train']} training, {counts['validation']} validation and {counts['test']} test patches; each row "
        f"was trained {len(recipe.seeds)} times for {steps} steps.",
        "Rows are cumulative: each adds one ingredient to the one above. Epoch and threshold are chosen on validation; "
        "the test split decides nothing and is looked at once a training.",
        f"hardened: the validation split and {recipe.judged_patches} simulated patches that no training and no choice "
        "of a threshold saw. Thick and thin apart are counted where the truth tells them apart.",
        f"Bright ground: clear pixels with a mean visible reflectance of at least {recipe.bright_ground:g}.",
        *(f"{name}: {meaning}" for name, meaning in PLACES.items()),
        *store.manifest.notes,
    ]
    if "ukis_csmask" in recipe.peers and not has_ukis:
        notes.append("ukis-csmask is left out: it is not installed (see the extra 'peers'), or bands are missing.")
    if recipe.curve:
        notes.append(
            f"The learning curve: the recipe of the last row (not {PLAIN!r}) on simulated patches alone; epoch and "
            "threshold chosen on simulated patches, so no real pixel took part. 'all' are all patches of the data set."
        )
    return notes
