"""Finds suspicious labels: one way to doubt for each family of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import UNLABELLED
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.translation.pairs import Pairs
from cloud_assets.families.translation.predictor import target_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import Predictor, load_predictor
from cloud_assets.lifecycle.suspicious_labels import LIST, SuspicionRecipe, SuspiciousLabels
from cloud_assets.patches.normal_split import ANOMALOUS, NORMAL
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.composites import FALSE_COLOUR, TRUE_COLOUR, composite
from cloud_assets.reports.confident_learning import (
    LEVELS,
    doubt_classes,
    doubt_mask,
    pixel_thresholds,
    quantised,
)
from cloud_assets.reports.predictions import predict_patches
from cloud_assets.reports.suspicion_figure import Doubt, doubt_panels

if TYPE_CHECKING:
    import pandas as pd

Rows = npt.NDArray[np.int64]


def suspicious_labels(
    bundle: ModelBundle, store: PatchStore, splits: Splits, recipe: SuspicionRecipe, *, progress: bool = True
) -> SuspiciousLabels:
    """Ranks patches by how confidently a model contradicts their labels.

    Masks and coverage classes are doubted by confident learning; labels of whole pictures by how far an anomaly score
    is on the wrong side of the threshold; pairs, whose label is the other picture, by how badly the model reproduces it
    compared with the other pairs (a cloud or a shift in the optical picture does that).

    Args:
        bundle: The model.
        store: Labelled patches.
        splits: Their splits: they tell which patches the model has learnt from, if it was trained with these.
        recipe: How many.
        progress: Whether to show a progress bar.

    Returns:
        The list.

    Raises:
        NoUsablePatches: If no patch has a label.
    """
    card = bundle.card
    learnt, certain = _learnt_from(bundle, store, splits)
    labelled = _labelled(card.family, store)
    if not len(labelled):
        raise NoUsablePatches(f"{card.task}: no patch of {store.directory} has a label to doubt.")
    order = labelled[np.argsort(learnt[labelled], kind="stable")]
    rows = np.sort(order[: recipe.patches])
    found, picture = _DOUBTERS[card.family](load_predictor(bundle), store, rows, progress)
    table = _described(found, store, splits, learnt).head(recipe.listed)
    shown = table["store_row"].head(recipe.pictured).tolist()
    figures = {"pictures": doubt_panels([picture(int(row)) for row in shown])} if shown else {}
    notes = [
        f"The model was trained on {int(learnt[rows].sum())} of the {len(rows)} patches looked at. What it says about "
        "the others is out of sample; where it learnt the label itself, a contradiction weighs more and agreement less."
    ]
    if not certain:
        notes.append("The model was trained with other patches or splits: groups that it knew count as learnt from.")
    if len(rows) < len(labelled):
        notes.append(f"{len(labelled) - len(rows)} labelled patches were not looked at (patches: {recipe.patches}).")
    learnt_count = int(learnt[rows].sum())
    return SuspiciousLabels(
        task=card.task,
        model_version=bundle.version,
        patches_version=store.data_version,
        looked_at=len(rows),
        learnt_from=learnt_count,
        tables={LIST: table},
        figures=figures,
        notes=notes,
    )


def _learnt_from(bundle: ModelBundle, store: PatchStore, splits: Splits) -> tuple[npt.NDArray[np.bool_], bool]:
    """(N,) which patches the model was trained on, and whether that is known for certain."""
    training = bundle.card.training
    learnt = np.zeros(len(store), bool)
    if (training.patches_version, training.splits_version) == (store.data_version, splits.data_version):
        learnt[splits.indices("train")] = True
        return learnt, True
    from cloud_assets.errors import InvalidModel
    from cloud_assets.inference.drift_reference import group_hash, reference_of

    try:
        known = reference_of(bundle.card).known_groups
    except InvalidModel:
        return ~learnt, False
    return store.index["group"].astype(str).map(group_hash).isin(known).to_numpy(dtype=bool), False


def _labelled(family: str, store: PatchStore) -> Rows:
    """Rows that have the kind of label that the family learns from."""
    if family in ("segmentation", "classification"):
        there = store.index["cloud_percentage"].notna().to_numpy()
    elif family == "anomaly":
        there = store.index["label"].isin([NORMAL, ANOMALOUS]).to_numpy()
    else:
        there = np.ones(len(store), bool)
    return np.flatnonzero(there).astype(np.int64)


def _described(found: pd.DataFrame, store: PatchStore, splits: Splits, learnt: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """The list with all that a labelling team needs to find the patch; unsuspected patches are left out."""
    rows = found["store_row"].to_numpy(dtype=np.int64)
    place = dict(zip(splits.table["position"].tolist(), splits.table["split"].tolist(), strict=True))
    index = store.index.iloc[rows]
    table = found.assign(
        patch_id=index["patch_id"].to_numpy(),
        group=index["group"].to_numpy(),
        split=[place.get(int(row), "") for row in rows],
        learnt_from=learnt[rows],
        row=index["row"].to_numpy(),
        column=index["col"].to_numpy(),
        source=index["source"].to_numpy(),
    )
    first = ["patch_id", "suspicion"]
    last = ["split", "learnt_from", "group", "row", "column", "source", "store_row"]
    middle = [name for name in found.columns if name not in (*first, *last)]
    ranked = table[table["suspicion"] > 0].sort_values(["suspicion", "patch_id"], ascending=[False, True])
    return ranked[[*first, *middle, *last]].reset_index(drop=True)


def _doubted_masks(predictor: Predictor, store: PatchStore, rows: Rows, progress: bool) -> Any:
    import pandas as pd

    batches = predict_patches(predictor, store, rows, batch_size=1, title="Doubting masks", progress=progress)
    levels = {
        int(batch.indices[0]): np.where(
            batch.answer["mask"][0] == UNLABELLED, np.uint8(0), quantised(batch.answer["cloud_probability"][0])
        )
        for batch in batches
    }
    truths = {row: np.asarray(store.masks[row]) for row in levels}
    thresholds = pixel_thresholds(list(truths.values()), list(levels.values()))
    doubts = {row: doubt_mask(truths[row], level, thresholds) for row, level in levels.items()}
    table = pd.DataFrame(
        {
            "store_row": list(doubts),
            "suspicion": [doubt.suspicion for doubt in doubts.values()],
            "contradicted_percentage": [doubt.contradicted_percentage for doubt in doubts.values()],
            "cloud_label_percentage": store.index["cloud_percentage"].to_numpy()[list(doubts)],
            "cloud_model_percentage": [100 * float((level > LEVELS / 2).mean()) for level in levels.values()],
        }
    )

    def picture(row: int) -> Doubt:
        return Doubt(
            _title(store, row, doubts[row].suspicion),
            _pictures(store, row),
            truths[row],
            levels[row].astype(np.float32) / np.float32(LEVELS),
            doubts[row].contradicted,
        )

    return table, picture


def _doubted_classes(predictor: Predictor, store: PatchStore, rows: Rows, progress: bool) -> Any:
    import pandas as pd

    card = predictor.card
    batches = predict_patches(predictor, store, rows, batch_size=8, title="Doubting classes", progress=progress)
    answers = [(batch.indices, batch.answer["class_probability"]) for batch in batches]
    looked = np.concatenate([indices for indices, _ in answers])
    shares = np.concatenate([probability for _, probability in answers]).astype(np.float64)
    there = np.isfinite(shares).all(axis=1)
    looked, shares = looked[there], shares[there]
    cover = store.index["cloud_percentage"].to_numpy()[looked]
    labels = np.searchsorted(np.asarray(card.details["boundaries"]), cover, side="right").astype(np.int64)
    suspicion, said = doubt_classes(shares, labels)
    names = np.asarray(card.classes)
    table = pd.DataFrame(
        {
            "store_row": looked,
            "suspicion": suspicion,
            "label": names[labels],
            "model": names[said],
            "cloud_label_percentage": cover,
        }
    )
    return table, _plain_picture(store, table, "label", "model")


def _doubted_pictures(predictor: Predictor, store: PatchStore, rows: Rows, progress: bool) -> Any:
    import pandas as pd

    threshold = predictor.card.threshold
    if threshold is None:
        raise NoUsablePatches(f"{predictor.card.task}: a model without a threshold cannot doubt a label.")
    batches = predict_patches(predictor, store, rows, batch_size=1, title="Doubting labels", progress=progress)
    scores = np.array([float(batch.answer["score"][0]) for batch in batches])
    labels = store.index["label"].to_numpy()[rows]
    normal = scores[(labels == NORMAL) & np.isfinite(scores)]
    spread = 1.4826 * float(np.median(np.abs(normal - np.median(normal)))) if len(normal) else 0.0
    wrong_side = np.where(labels == NORMAL, scores - threshold.value, threshold.value - scores)
    table = pd.DataFrame(
        {
            "store_row": rows,
            "suspicion": np.nan_to_num(wrong_side / max(spread, 1e-9)).clip(min=0),
            "label": labels,
            "model": np.where(scores >= threshold.value, ANOMALOUS, NORMAL),
            "score": scores,
        }
    )
    return table, _plain_picture(store, table, "label", "model")


def _doubted_pairs(predictor: Predictor, store: PatchStore, rows: Rows, progress: bool) -> Any:
    import pandas as pd

    pairs = Pairs(store, predictor.card, target_of(predictor.card))
    role = pairs.input_role
    errors, covers = [], []
    for batch in predict_patches(
        predictor, store, rows, batch_size=1, title="Doubting pairs", progress=progress, role=role
    ):
        truth, valid = pairs.reflectance(batch.indices)
        made = np.nan_to_num(batch.answer["reflectance"][0])
        seen = valid[0]
        errors.append(float(np.sqrt(np.mean((made - truth[0])[:, seen] ** 2))) if seen.any() else np.nan)
        covers.append(float(truth[0][:, seen].mean()) if seen.any() else np.nan)
    rmse = np.array(errors)
    middle = np.nanmedian(rmse)
    spread = max(1.4826 * float(np.nanmedian(np.abs(rmse - middle))), 1e-9)
    deviation = (rmse - middle) / spread
    table = pd.DataFrame(
        {
            "store_row": rows,
            "suspicion": np.nan_to_num(np.where(deviation > _ODD_PAIR, deviation, 0.0)),
            "rmse": rmse,
            "mean_reflectance": covers,
        }
    )
    return table, _plain_picture(store, table, "rmse", "mean_reflectance")


_ODD_PAIR = 2.0
"""Robust standard deviations above the median error from which a pair is listed."""
_DOUBTERS: Mapping[str, Callable[[Predictor, PatchStore, Rows, bool], Any]] = {
    "segmentation": _doubted_masks,
    "classification": _doubted_classes,
    "anomaly": _doubted_pictures,
    "translation": _doubted_pairs,
}


def _plain_picture(store: PatchStore, table: pd.DataFrame, *columns: str) -> Callable[[int], Doubt]:
    """Pictures of patches whose label is no mask: what the label and the model say stands in the title."""
    by_row = table.set_index("store_row").to_dict("index")

    def picture(row: int) -> Doubt:
        values = by_row[row]
        said = ", ".join(f"{name.replace('_', ' ')} {_text(values[name])}" for name in columns)
        return Doubt(f"{_title(store, row, float(values['suspicion']))}; {said}", _pictures(store, row))

    return picture


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _title(store: PatchStore, row: int, suspicion: float) -> str:
    return f"{store.index['patch_id'].iloc[row]}: suspicion {suspicion:.2f}"


def _pictures(store: PatchStore, row: int) -> dict[str, Any]:
    for name, role in store.roles.items():
        dn = np.asarray(store.array(name)[row])
        found = {"true colour": composite(dn, role, TRUE_COLOUR), "NIR, red, green": composite(dn, role, FALSE_COLOUR)}
        shown = {heading: picture for heading, picture in found.items() if picture is not None}
        if shown:
            return shown
    first = np.asarray(store.array(next(iter(store.roles), IMAGES))[row][0], np.float32)
    return {"first band": np.nan_to_num(first)}
