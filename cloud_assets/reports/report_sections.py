"""Sections of a report on the data, the splits, the model and its training; the same for every task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.inference.bundle import ModelCard
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore


def report_sections(
    store: PatchStore, card: ModelCard, *, model: Mapping[str, str] | None = None, **sections: Mapping[str, str]
) -> dict[str, Mapping[str, str]]:
    """Labelled values that say what was evaluated, by their headings."""
    return {
        "Data": _data_section(store),
        "Model": {**_model_section(card), **(model or {})},
        **sections,
        "Training": _training_section(card),
        "Recipe": _recipe_section(card),
        "Software": dict(card.software),
    }


def _data_section(store: PatchStore) -> dict[str, str]:
    """The patches: what they are and what was left out of them."""
    manifest = store.manifest
    values = {
        "data set": manifest.dataset,
        "pixels": "simulated" if store.is_synthetic else "real imagery",
        "patches": f"{len(store)} from {store.index['group'].nunique()} scenes or regions",
    }
    for name, role in store.roles.items():
        channels, height, width = role.shape
        values[name] = (
            f"{channels} bands ({', '.join(role.bands)}) of {role.instrument}, {height} × {width} px, {role.dtype}"
        )
    values["left out"] = f"{len(manifest.skipped)} unreadable scenes, {manifest.dropped_blank} nearly blank patches"
    return values


def _model_section(card: ModelCard) -> dict[str, str]:
    """The model card's essentials."""
    preprocessing = card.preprocessing
    low, high = preprocessing.clip
    values = {
        "network": _listed(card.network.model_dump()),
        "bands": f"{', '.join(preprocessing.bands)} ({preprocessing.instrument})",
        "scaling": f"clipped to {low:g} … {high:g}, {preprocessing.normalisation.replace('_', ' ')}",
    }
    if card.classes:
        values["classes"] = ", ".join(card.classes)
    if card.threshold is not None:
        values["threshold"] = f"{card.threshold.unit} ≥ {card.threshold.value:.3g} ({card.threshold.method})"
    if card.patch_size is not None:
        values["patch size"] = f"{card.patch_size} px"
    return values


def _training_section(card: ModelCard) -> dict[str, str]:
    """How the model was trained."""
    record = card.training
    ended = {} if record.stopped_by is None else {"ended by": f"{record.stopped_by}, after {record.steps_run} steps"}
    return {
        "trained on": "simulated patches" if card.is_synthetic_training_data else "real imagery",
        "patches": record.patches_version,
        "splits": record.splits_version,
        "epochs": f"{record.epochs_run}, weights of epoch {record.best_epoch + 1} kept",
        **ended,
        "time": f"{record.seconds / 60:.1f} min on {record.device}",
        "seed": str(record.seed),
        "fingerprint": record.fingerprint,
        "finished": card.created.isoformat(timespec="seconds"),
    }


def changed_settings(recipe: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a recipe that differ from what the task declares, with the declared value; both as JSON."""
    used, default = _flattened(recipe), _flattened(declared)
    names = [name for name in {**used, **default} if used.get(name) != default.get(name)]
    return {
        name.replace("_", " "): f"{used.get(name, 'unset')} (declared: {default.get(name, 'unset')})" for name in names
    }


def _recipe_section(card: ModelCard) -> dict[str, str]:
    """The training recipe, one line a setting."""
    return {name.replace("_", " "): text for name, text in _flattened(card.training.recipe).items()}


def inherited_notes(store: PatchStore, card: ModelCard) -> tuple[str, ...]:
    """Notes that a report takes over: those of the patches, and that a time limit ended the training if it did."""
    if card.training.stopped_by != "time limit":
        return tuple(store.manifest.notes)
    limit = f"The time limit ended the training after {card.training.steps_run} steps, before the learning rate had"
    return (*store.manifest.notes, f"{limit} run its course: on another machine the model would be another.")


def splits_table(store: PatchStore, splits: Splits) -> pd.DataFrame:
    """One row a split: ``split``, ``patches``, ``groups``, ``valid_percentage``; with masks ``cloud_percentage``."""
    import pandas as pd

    rows = []
    for split in ("train", "validation", "test"):
        chosen = store.index.loc[splits.indices(split)]
        rows.append(
            {
                "split": split,
                "patches": len(chosen),
                "groups": int(chosen["group"].nunique()),
                "cloud_percentage": float(chosen["cloud_percentage"].mean()),
                "valid_percentage": 100 * float(chosen["valid_fraction"].mean()),
            }
        )
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{name}: ")
        elif value is not None:
            flat[prefix + name] = _text(value)
    return flat


def _listed(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in content.items() if value is not None)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
