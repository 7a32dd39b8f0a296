"""Drift of a task's data since its champion was trained: the reference in its card, what came after it, the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

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
from cloud_assets.lifecycle.drift_statistics import Drift, DriftDetector, DriftRecipe, Level, Sample
from cloud_assets.patches.statistics import band_positions, band_statistics
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.figures import BASELINE_COLOUR, CLASS_COLOURS, SERIES_COLOURS, drawing, png
from cloud_assets.reports.report import Page, Report, Tile, now, read_captions
from cloud_assets.scenes.prediction import observe_scene
from cloud_assets.scenes.product_record import predicted_scenes

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["scene", "recent scenes", "new patches"]
_MARKERS: Mapping[Kind, str] = {"scene": "o", "recent scenes": "D", "new patches": "s"}
_LEVEL_COLOURS: Mapping[Level, str] = {"steady": BASELINE_COLOUR, "warning": "#e69f00", "severe": "#c4261d"}
CAPTIONS = read_captions(__package__, "drift")
IMAGES_SAMPLED = 300  # patches whose pixels are described
ANSWERS_SAMPLED = 64  # patches that the model answers for: each costs a prediction
_KEPT = 500  # batches that a report remembers
_INDEX_COLUMNS = ("batch", "seen")


@dataclass(frozen=True)
class BatchDrift:
    """One batch and what the comparison found."""

    name: str
    kind: Kind
    seen: str  # when it was looked at (UTC, ISO 8601)
    level: Level
    p_value: float
    patches: int
    groups: int
    feature: str  # the feature that moved most
    ks: float
    psi: float


@dataclass(frozen=True, kw_only=True)
class DriftReport(Report):
    """Drift of a task's data against its champion's training reference."""

    file: ClassVar[str] = "drift.json"
    remedy: ClassVar[str] = "Delete it; the next materialisation starts a new one."

    task: str
    model_version: str  # the champion's version; batches were compared with its reference
    batches: Sequence[BatchDrift] = ()  # oldest first
    is_blind: bool = False  # the champion's card has no usable reference: drift cannot be measured

    @property
    def observations(self) -> "pd.DataFrame | None":
        """One row a window of a scene: ``batch``, ``seen``, and the features; what joint batches are made of."""
        return self.tables.get("observations")

    @property
    def features(self) -> "pd.DataFrame | None":
        """The latest joint batch, feature by feature."""
        return self.tables.get("features")

    @property
    def latest(self) -> tuple[BatchDrift, ...]:
        """The findings that count now: the last joint batch of scenes and the last batch of new patches."""
        return tuple({batch.kind: batch for batch in self.batches if batch.kind != "scene"}.values())

    @property
    def level(self) -> Level:
        """The worst of :attr:`latest`."""
        levels = [batch.level for batch in self.latest]
        return "severe" if "severe" in levels else "warning" if "warning" in levels else "steady"

    def page(self) -> Page:
        """The latest findings, the batches and the features of the latest one."""
        tables = {"batches": self.batch_table()} if self.batches else {}
        return Page(
            title=f"{self.task} / drift",
            subtitle=f"New data against the training reference of model {self.model_version}",
            tiles=[
                Tile(one.kind, one.level, f"p {one.p_value:.3g}, {one.feature}: D {one.ks:.2f}, PSI {one.psi:.2f}")
                for one in self.latest
            ],
            tables=tables if self.features is None else {**tables, "features": self.features},
            captions=CAPTIONS,
        )

    def batch_table(self) -> "pd.DataFrame":
        """The batches, newest first."""
        import pandas as pd

        return pd.DataFrame(map(asdict, reversed(self.batches)))


def drawn(batches: Sequence[BatchDrift]) -> dict[str, bytes]:
    """The figure ``over_time`` as PNG image; nothing without a batch."""
    if not batches:
        return {}
    with drawing(10, 5.2, 2, 1, sharex=True) as (figure, (above, below)):
        places = range(len(batches))
        for kind, marker in _MARKERS.items():
            for level, colour in _LEVEL_COLOURS.items():
                chosen = [n for n in places if (batches[n].kind, batches[n].level) == (kind, level)]
                shown = {"marker": marker, "color": colour, "s": 34, "label": f"{kind}, {level}"}
                if chosen:
                    above.scatter(chosen, [1 / batches[n].p_value for n in chosen], **shown)
        above.set(yscale="log", ylabel="unusual: 1 in …")
        above.legend(loc="upper left", ncols=3)
        below.plot(places, [batch.ks for batch in batches], color=CLASS_COLOURS["cloud"], label="Kolmogorov–Smirnov D")
        below.plot(places, [batch.psi for batch in batches], color=SERIES_COLOURS[1], label="stability index (PSI)")
        below.set_ylabel("largest distance")
        below.set_ylim(bottom=0)
        below.legend(loc="upper left", ncols=2)
        step = max(1, len(batches) // 12)
        below.set_xticks(places[::step], [f"{batches[n].seen[:10]}\n{batches[n].feature}" for n in places[::step]])
        below.tick_params(axis="x", labelsize=8, rotation=30)
        return {"over_time": png(figure)}


def drift_report(
    task: str, bundle: ModelBundle, store: PatchStore, scenes: Path, previous: DriftReport | None, recipe: DriftRecipe
) -> DriftReport:
    """Compares new scenes and new patches with the champion's training reference.

    Scenes that the previous report has seen are not looked at again. A new champion starts a new report: it has another
    reference. Of the labelled patches those are new whose groups the champion's splits did not have; ``scenes`` is the
    folder of the products of predicted scenes, searched at any depth.
    """
    import pandas as pd

    version = bundle.version
    if previous is None or previous.model_version != version:
        previous = DriftReport(task=task, model_version=version)
    try:
        reference = reference_of(bundle.card)
    except InvalidModel as error:
        return DriftReport(task=task, model_version=version, notes=[str(error)], is_blind=True)
    known = {batch.name for batch in previous.batches if batch.kind == "scene"}
    observed, notes = _observe(task, bundle, scenes, previous.observations, known, recipe)
    troubles: list[str] = []
    detectors = _detectors(reference, recipe, troubles)
    batches, features = list(previous.batches), previous.features

    def judge(name: str, kind: Kind, batch: Sample) -> None:
        nonlocal features
        drift = _compared(detectors, batch, troubles)
        if drift is not None:
            most, found = drift.features[0], (drift.level(recipe), drift.p_value, drift.patches, drift.groups)
            batches.append(BatchDrift(name, kind, now(), *found, most.name, most.ks, most.psi))
            if kind != "scene":
                features = pd.DataFrame(map(asdict, drift.features))

    names = list(dict.fromkeys(observed["batch"]))
    new = [name for name in names if name not in known]
    for name in new:
        judge(name, "scene", _windows(observed[observed["batch"] == name]))
    if new:
        recent = names[-recipe.recent_scenes :]
        together = _windows(observed[observed["batch"].isin(recent)])
        judge(f"{len(recent)} scenes up to {recent[-1]}", "recent scenes", together)
    patches = f"patches {store.data_version[:8]}"
    if patches not in {batch.name for batch in batches}:
        fresh = _new_patches(reference, bundle, store, recipe.patches)
        if fresh is not None:
            judge(patches, "new patches", fresh)
    kept = batches[-_KEPT:]
    notes += troubles
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


def _observe(
    task: str, bundle: ModelBundle, scenes: Path, earlier: "pd.DataFrame | None", known: set[str], recipe: DriftRecipe
) -> "tuple[pd.DataFrame, list[str]]":
    """The rows of scenes seen before and now; and what could not be looked at."""
    import pandas as pd

    notes = []
    parts = [] if earlier is None else [earlier]
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
            parts.append(pd.DataFrame(rows).assign(batch=name, seen=now()))
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
    described = columns({**images[row], **answers[row]} for row in both)
    numbers = np.unique(groups.to_numpy(dtype=str)[both], return_inverse=True)[1]
    return Sample({name: np.asarray(values) for name, values in described.items()}, numbers.astype(np.int64))


def _detectors(reference: TrainingReference, recipe: DriftRecipe, troubles: list[str]) -> list[DriftDetector]:
    """One for pixels, one for answers, which are of different patches; why one cannot be had is added to troubles."""
    detectors = []
    for what, described, groups in (
        ("pixels", reference.images, reference.image_groups),
        ("answers", reference.answers, reference.answer_groups),
    ):
        features = {name: np.asarray(values, np.float64) for name, values in described.items()}
        try:
            detectors.append(DriftDetector(Sample(features, np.asarray(groups, np.int64)), recipe))
        except NoUsablePatches as error:
            troubles.append(f"{what}: {error}")
    return detectors


def _compared(detectors: Sequence[DriftDetector], batch: Sample, troubles: list[str]) -> Drift | None:
    """The more unusual of all findings; None if none can be had."""
    found = []
    for detector in detectors:
        try:
            found.append(detector.compare(batch))
        except NoUsablePatches as error:
            troubles.append(str(error))
    if not found:
        return None
    worst = min(found, key=lambda drift: drift.p_value)
    others = [feature for drift in found if drift is not worst for feature in drift.features]
    # Each had its chance of a false alarm.
    corrected = min(1.0, worst.p_value * len(found))
    return replace(worst, p_value=corrected, features=(*worst.features, *others))


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
    images = store.array(role)
    found = {int(row): family.answer_features(predictor.predict(images[row : row + 1][:, channels])) for row in rows}
    return {row: features for row, features in found.items() if features}


def _input(bundle: ModelBundle, store: PatchStore) -> tuple[str, list[int]]:
    role = family_of(bundle).card_section.of(bundle.card).patches_role
    return role, band_positions(store.roles[role], bundle.card.bands)
