"""Drift of a task's data since its champion was trained."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloud_assets.errors import CloudAssetsError, InvalidModel, NoUsablePatches
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.drift_reference import TrainingReference, group_hash, reference_of
from cloud_assets.lifecycle.drift_reference_writer import described_answers, described_images, sampled_rows
from cloud_assets.lifecycle.drift_report import BatchDrift, DriftReport, Kind, drawn, feature_table
from cloud_assets.lifecycle.drift_statistics import Drift, DriftDetector, DriftRecipe, Sample
from cloud_assets.patches.store import PatchStore
from cloud_assets.scenes.observation import observe_scene, predicted_scenes

if TYPE_CHECKING:
    import pandas as pd

_KEPT = 500
"""Batches that a report remembers."""
_INDEX_COLUMNS = ("batch", "seen")


def drift_report(
    task: str,
    bundle: ModelBundle,
    store: PatchStore,
    scenes: Path,
    previous: DriftReport | None,
    recipe: DriftRecipe,
) -> DriftReport:
    """Compares new scenes and new patches with the champion's training reference.

    Scenes that the previous report has seen are not looked at again. A new champion starts a new report: it has another
    reference.

    Args:
        task: Name of the task.
        bundle: Its champion.
        store: Its labelled patches as they are now; those of groups that the champion's splits did not have are new.
        scenes: Folder of the products of predicted scenes, searched at any depth.
        previous: The report so far.
        recipe: How drift is distinguished from chance.

    Returns:
        The report with the new batches.
    """
    version = bundle.version
    if previous is None or previous.model_version != version:
        previous = DriftReport(task=task, model_version=version)
    try:
        judge = _Judge(reference_of(bundle.card), recipe)
    except InvalidModel as error:
        return DriftReport(task=task, model_version=version, notes=[str(error)], is_blind=True)
    observed, notes = _observe(task, bundle, scenes, previous, recipe)
    batches, features = list(previous.batches), previous.features
    new = [name for name in dict.fromkeys(observed["batch"]) if name not in _known(previous)] if len(observed) else []
    for name in new:
        drift = judge(_windows(observed[observed["batch"] == name]))
        batches += [] if drift is None else [_batch(name, "scene", drift, recipe)]
    if new:
        recent = list(dict.fromkeys(observed["batch"]))[-recipe.recent_scenes :]
        drift = judge(_windows(observed[observed["batch"].isin(recent)]))
        if drift is not None:
            batches.append(_batch(f"{len(recent)} scenes up to {recent[-1]}", "recent scenes", drift, recipe))
            features = feature_table(drift)
    patches = f"patches {store.data_version[:8]}"
    if patches not in {batch.name for batch in batches}:
        fresh = _new_patches(judge.reference, bundle, store, recipe.patches)
        drift = None if fresh is None else judge(fresh)
        if drift is not None:
            batches.append(_batch(patches, "new patches", drift, recipe))
            features = feature_table(drift)
    kept = batches[-_KEPT:]
    notes += judge.troubles
    if not kept:
        notes.append("No scene was predicted and no new patch came in since the champion was trained.")
    return DriftReport(
        task=task,
        model_version=version,
        batches=kept,
        tables={"observations": observed} | ({} if features is None else {"features": features}),
        notes=notes,
        figures=drawn(kept),
    )


def _known(report: DriftReport) -> set[str]:
    return {batch.name for batch in report.batches if batch.kind == "scene"}


def _observe(
    task: str, bundle: ModelBundle, scenes: Path, previous: DriftReport, recipe: DriftRecipe
) -> "tuple[pd.DataFrame, list[str]]":
    """The rows of scenes seen before and now; and what could not be looked at."""
    import pandas as pd

    known, notes = _known(previous), []
    parts = [] if previous.observations is None else [previous.observations]
    for products in predicted_scenes(scenes, task):
        name = f"{products.name} {products.fingerprint[:8]}"
        if name in known:
            continue
        try:
            rows = observe_scene(open_scene(Path(products.source)), bundle, recipe.windows)
        except CloudAssetsError as error:
            notes.append(f"{products.name} could not be looked at: {error}")
            continue
        if rows:
            parts.append(pd.DataFrame(rows).assign(batch=name, seen=_now()))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_INDEX_COLUMNS))
    remembered = list(dict.fromkeys(table["batch"]))[-_KEPT:]
    return table[table["batch"].isin(remembered)].reset_index(drop=True), notes


def _windows(rows: "pd.DataFrame") -> Sample:
    """Windows of scenes; each scene is a group."""
    groups = np.unique(rows["batch"].to_numpy(dtype=str), return_inverse=True)[1]
    names = [name for name in rows.columns if name not in _INDEX_COLUMNS]
    return Sample({name: rows[name].to_numpy(dtype=np.float64) for name in names}, groups.astype(np.int64))


def _new_patches(reference: TrainingReference, bundle: ModelBundle, store: PatchStore, most: int) -> Sample | None:
    """Patches of groups that the champion's splits did not have; None if there are none."""
    groups = store.index["group"].astype(str)
    is_new = ~groups.map(group_hash).isin(reference.known_groups).to_numpy()
    rows = sampled_rows(store, np.flatnonzero(is_new), most)
    if not len(rows):
        return None
    images, answers = described_images(bundle, store, rows), described_answers(bundle, store, rows)
    both = [row for row in images if row in answers]
    if not both:
        return None
    names = [*images[both[0]], *answers[both[0]]]
    described = {name: np.array([{**images[row], **answers[row]}[name] for row in both]) for name in names}
    numbers = np.unique(groups.to_numpy(dtype=str)[both], return_inverse=True)[1]
    return Sample(described, numbers.astype(np.int64))


class _Judge:
    """Compares batches with both parts of a training reference: pixels and answers, which are of different patches."""

    def __init__(self, reference: TrainingReference, recipe: DriftRecipe) -> None:
        self.reference = reference
        self.troubles: list[str] = []
        self._detectors = []
        for what, columns, groups in (
            ("pixels", reference.images, reference.image_groups),
            ("answers", reference.answers, reference.answer_groups),
        ):
            features = {name: np.asarray(values, np.float64) for name, values in columns.items()}
            try:
                self._detectors.append(DriftDetector(Sample(features, np.asarray(groups, np.int64)), recipe))
            except NoUsablePatches as error:
                self.troubles.append(f"{what}: {error}")

    def __call__(self, batch: Sample) -> Drift | None:
        """The more unusual of both findings; None if neither can be had."""
        found = []
        for detector in self._detectors:
            try:
                found.append(detector.compare(batch))
            except NoUsablePatches as error:
                self.troubles.append(str(error))
        return _together(found) if found else None


def _together(found: Sequence[Drift]) -> Drift:
    """One finding of several; each had its chance of a false alarm, so p is multiplied by their number."""
    worst = min(found, key=lambda drift: drift.p_value)
    others = [feature for drift in found if drift is not worst for feature in drift.features]
    corrected = min(1.0, worst.p_value * len(found))
    return replace(worst, p_value=corrected, features=(*worst.features, *others))


def _batch(name: str, kind: Kind, drift: Drift, recipe: DriftRecipe) -> BatchDrift:
    most = drift.features[0]
    return BatchDrift(
        name,
        kind,
        _now(),
        drift.level(recipe),
        drift.p_value,
        drift.patches,
        drift.groups,
        most.name,
        most.ks,
        most.psi,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
