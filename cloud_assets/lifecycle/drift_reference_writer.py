"""Writes the drift reference into a trained model's card."""

import numpy as np
import numpy.typing as npt

from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.drift_reference import ReferenceSection, TrainingReference, columns, group_hash
from cloud_assets.inference.patch_features import image_features
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.patches.statistics import band_positions, band_statistics
from cloud_assets.patches.store import PatchStore

IMAGES_SAMPLED = 300
"""Patches whose pixels are described."""
ANSWERS_SAMPLED = 64
"""Patches that the model answers for: each costs a prediction."""


def with_training_reference(bundle: ModelBundle, run: TrainingRun) -> ModelBundle:
    """The same model with :class:`TrainingReference` in its card.

    Args:
        bundle: The trained model.
        run: Its training: pixels of all splits are described (a data set of normal pictures keeps the others for the
            test), answers are those to the validation and test splits, which the model did not learn from.
    """
    reference = training_reference(bundle, run)
    section = ReferenceSection(training_reference=reference.model_dump(mode="json"))
    return bundle.with_card(details=bundle.card.details | section.details())


def training_reference(bundle: ModelBundle, run: TrainingRun) -> TrainingReference:
    """Describes the data of a training; see :func:`with_training_reference`."""
    store = run.store
    role, channels = _input(bundle, store)
    training = run.splits.indices("train")
    held_out = np.concatenate([run.splits.indices("validation"), run.splits.indices("test")])
    # A training on simulated patches alone has no training split.
    statistics = band_statistics(store, training if len(training) else held_out, role=role)
    chosen = sampled_rows(store, run.splits.table["position"].to_numpy(dtype=np.int64), IMAGES_SAMPLED)
    judged = sampled_rows(store, held_out, ANSWERS_SAMPLED)
    images = described_images(bundle, store, chosen)
    answers = described_answers(bundle, store, judged)
    groups = store.index["group"].astype(str).to_numpy()
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    return TrainingReference(
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


def sampled_rows(store: PatchStore, rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """At most so many rows, drawn from all groups in turn: groups count in drift, not patches.

    Args:
        store: The patches.
        rows: Rows to choose from.
        most: How many at most.

    Returns:
        The chosen rows, rising.
    """
    if len(rows) <= most:
        return np.sort(rows)
    table = store.index.iloc[rows].assign(row=rows).sample(frac=1.0, random_state=0)
    turn = table.groupby("group").cumcount().to_numpy()
    return np.sort(table["row"].to_numpy(dtype=np.int64)[np.argsort(turn, kind="stable")[:most]])


def described_images(
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
