"""Drift of a task's data since its champion was trained: the reference in its card, and what came after it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import CloudAssetsError, InvalidModel, NoUsablePatches
from cloud_assets.families import family_of
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.drift_reference import (
    ReferenceSection,
    TrainingReference,
    columns,
    group_hash,
    image_features,
    reference_of,
)
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle.drift_report import BatchDrift, DriftReport, Kind, drawn
from cloud_assets.lifecycle.drift_statistics import Drift, DriftDetector, DriftRecipe, Sample
from cloud_assets.patches.statistics import band_positions, band_statistics
from cloud_assets.patches.store import PatchStore
from cloud_assets.scenes.prediction import observe_scene
from cloud_assets.scenes.product_record import predicted_scenes

if TYPE_CHECKING:
    import pandas as pd

IMAGES_SAMPLED = 300
"""Patches whose pixels are described."""
ANSWERS_SAMPLED = 64
"""Patches that the model answers for: each costs a prediction."""
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
    """
    import pandas as pd

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
            features = pd.DataFrame(map(asdict, drift.features))
    patches = f"patches {store.data_version[:8]}"
    if patches not in {batch.name for batch in batches}:
        fresh = _new_patches(judge.reference, bundle, store, recipe.patches)
        drift = None if fresh is None else judge(fresh)
        if drift is not None:
            batches.append(_batch(patches, "new patches", drift, recipe))
            features = pd.DataFrame(map(asdict, drift.features))
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
    rows = _sampled_rows(store, np.flatnonzero(is_new), most)
    if not len(rows):
        return None
    images, answers = _described_images(bundle, store, rows), described_answers(bundle, store, rows)
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
        for what, described, groups in (
            ("pixels", reference.images, reference.image_groups),
            ("answers", reference.answers, reference.answer_groups),
        ):
            features = {name: np.asarray(values, np.float64) for name, values in described.items()}
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
    found = (drift.level(recipe), drift.p_value, drift.patches, drift.groups)
    return BatchDrift(name, kind, _now(), *found, most.name, most.ks, most.psi)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def with_training_reference(bundle: ModelBundle, run: TrainingRun) -> ModelBundle:
    """The same model with :class:`TrainingReference` in its card.

    Pixels of all splits are described (a data set of normal pictures keeps the others for the test); answers are those
    to the validation and test splits, which the model did not learn from.
    """
    store = run.store
    role, channels = _input(bundle, store)
    training = run.splits.indices("train")
    held_out = np.concatenate([run.splits.indices("validation"), run.splits.indices("test")])
    # A training on simulated patches alone has no training split.
    statistics = band_statistics(store, training if len(training) else held_out, role=role)
    chosen = _sampled_rows(store, run.splits.table["position"].to_numpy(dtype=np.int64), IMAGES_SAMPLED)
    judged = _sampled_rows(store, held_out, ANSWERS_SAMPLED)
    images = _described_images(bundle, store, chosen)
    answers = described_answers(bundle, store, judged)
    groups = store.index["group"].astype(str).to_numpy()
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    reference = TrainingReference(
        bands=tuple(statistics.bands[channel] for channel in channels),
        unit=statistics.unit,
        mean=tuple(statistics.mean[channel] for channel in channels),
        std=tuple(statistics.std[channel] for channel in channels),
        percentiles={
            str(share): tuple(values[channel] for channel in channels)
            for share, values in statistics.percentiles.items()
        },
        images=columns(images.values()),
        image_groups=tuple(numbers[groups[row]] for row in images),
        answers=columns(answers.values()),
        answer_groups=tuple(numbers[groups[row]] for row in answers),
        known_groups=tuple(sorted({group_hash(group) for group in run.splits.table["group"].astype(str)})),
    )
    section = ReferenceSection(training_reference=reference.model_dump(mode="json"))
    return bundle.with_card(details=bundle.card.details | section.details())


def _sampled_rows(store: PatchStore, rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """At most so many rows, rising, drawn from all groups in turn: groups count in drift, not patches."""
    if len(rows) <= most:
        return np.sort(rows)
    table = store.index.iloc[rows].assign(row=rows).sample(frac=1.0, random_state=0)
    turn = table.groupby("group").cumcount().to_numpy()
    return np.sort(table["row"].to_numpy(dtype=np.int64)[np.argsort(turn, kind="stable")[:most]])


def _described_images(
    bundle: ModelBundle, store: PatchStore, rows: npt.NDArray[np.int64]
) -> dict[int, dict[str, float]]:
    """Features of the model's bands by row; rows without a valid pixel are left out."""
    role, channels = _input(bundle, store)
    found = {int(row): image_features(store.array(role)[row][channels], bundle.card.preprocessing) for row in rows}
    return {row: features for row, features in found.items() if features}


def described_answers(
    bundle: ModelBundle, store: PatchStore, rows: npt.NDArray[np.int64], device: str = "auto"
) -> dict[int, dict[str, float]]:
    """Features of the model's answers by row; rows that it has no answer for are left out."""
    role, channels = _input(bundle, store)
    family = family_of(bundle)
    predictor = family.predictor(bundle, device)
    found = {}
    for row in rows:
        found[int(row)] = family.answer_features(predictor.predict(store.array(role)[row : row + 1][:, channels]))
    return {row: features for row, features in found.items() if features}


def _input(bundle: ModelBundle, store: PatchStore) -> tuple[str, list[int]]:
    role = family_of(bundle).card_section.of(bundle.card).patches_role
    return role, band_positions(store.roles[role], bundle.card.bands)
