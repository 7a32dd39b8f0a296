"""Runs a task's ablation: trains each row once with each seed, and judges all rows alike."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloud_assets.errors import InvalidRecipe, TrackingUnavailable
from cloud_assets.families.segmentation.ablation_recipe import PLAIN, AblationRecipe, seeded
from cloud_assets.families.segmentation.baselines import fit_brightness_threshold
from cloud_assets.families.segmentation.mask_rules import MaskRule, UkisMask
from cloud_assets.families.segmentation.mask_scores import PLACES
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.families.segmentation.shipped_start import check_start
from cloud_assets.lifecycle.ablation_figures import (
    CAPTIONS,
    change_panels,
    curve_figure,
    greatest_changes,
    iou_bars,
)
from cloud_assets.lifecycle.ablation_result import Ablation, tabulated
from cloud_assets.lifecycle.ablation_rows import ABLATION, Judge, RowTrainer
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.tracking import Tracker

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
        InvalidModel: If a row starts from weights that do not fit it.
        CloudAssetsError: Whatever a training raises.
    """
    variant, base = taken_apart(task, recipe)
    judge = Judge.on(store, splits, base, recipe, folder, progress)
    trainer = RowTrainer(task.name, recipe, store, splits, folder, judge, tell, progress)
    rows, curve = recipe.rows(base), recipe.curve_rows(base)
    for row in (*rows.values(), *curve.values()):
        check_start(row, store)
    scored = [trainer.scored(name, "row", row, seed) for name, row in rows.items() for seed in recipe.seeds]
    scored += [
        trainer.scored(f"simulation only, {count}", "curve", row, seed, count)
        for count, row in curve.items()
        for seed in recipe.curve_seeds
    ]
    peers = dict(_peers(recipe, store, splits))
    scored += [trainer.peer(name, rule) for name, rule in peers.items()]
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
        notes=_notes(recipe, rows, store, splits, "ukis-csmask" in peers),
    )


def publish(
    found: Ablation, folder: Path, tracker: "Tracker", *, tags: Mapping[str, str], warn: Callable[[str], None]
) -> str | None:
    """Logs an ablation's report, tables and figures to MLflow, once for the same numbers.

    Args:
        found: The ablation.
        folder: Where workspaces are kept.
        tracker: MLflow.
        tags: Noted with the run.
        warn: Called with one sentence if MLflow is away.

    Returns:
        The run; None while MLflow is away.
    """
    workspace = folder / found.task / ABLATION / f"report_{found.data_version}"
    workspace.mkdir(parents=True, exist_ok=True)
    try:
        run_id = tracker.begin(workspace, found.task, ABLATION, {ABLATION: dict(found.recipe)}, tags)
        with tempfile.TemporaryDirectory() as temporary:
            found.save(Path(temporary) / ABLATION)
            tracker.log_folder(run_id, Path(temporary) / ABLATION, ABLATION, found.metrics())
    except TrackingUnavailable as error:
        warn(str(error))
        return None
    return run_id


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


def _steps(row: Segmentation) -> int | None:
    optimisation = row.optimisation
    return None if optimisation.steps_per_epoch is None else optimisation.max_epochs * optimisation.steps_per_epoch


def _notes(
    recipe: AblationRecipe, rows: Mapping[str, Segmentation], store: PatchStore, splits: Splits, has_ukis: bool
) -> list[str]:
    counts = {name: len(splits.indices(name)) for name in ("train", "validation", "test")}
    steps = recipe.epochs * recipe.steps_per_epoch
    others = {name: _steps(row) for name, row in rows.items() if _steps(row) != steps}
    except_for = "".join(f", {name!r} for {count or 'as many as its epochs have'}" for name, count in others.items())
    notes = [
        f"{counts['train']} training, {counts['validation']} validation and {counts['test']} test patches; each row "
        f"was trained {len(recipe.seeds)} times for {steps} steps{except_for}.",
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
    if has_ukis:
        notes.append(
            "ukis-csmask was made for reflectance corrected for the height of the sun; it gets the data's own, which "
            "for Landsat level 1 is not corrected and so darker."
        )
    if recipe.curve:
        notes.append(
            f"The learning curve: the recipe of the last row (not {PLAIN!r}) from random weights on simulated patches "
            "alone; epoch and threshold chosen on simulated patches, so no real pixel took part. 'all' are all patches "
            "of the data set."
        )
    return notes
