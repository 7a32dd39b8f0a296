"""Doubts of a model about the labels of patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.composites import FALSE_COLOUR, TRUE_COLOUR, composite
from cloud_assets.reports.suspicion_figure import Doubt

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.patches.store import PatchStore


@dataclass(frozen=True)
class Doubts:
    """How far a model contradicts the labels of patches."""

    table: pd.DataFrame
    """One row a patch: ``store_row``, ``suspicion`` (0: none), and columns that say what label and model are."""
    picture: Callable[[int], Doubt]
    """The panel of a row of the store."""


def without_masks(store: PatchStore, table: pd.DataFrame, *columns: str) -> Doubts:
    """Doubts about labels that are no masks; what label and model say stands in the title of the panel.

    Args:
        store: The patches.
        table: As :attr:`Doubts.table`.
        columns: Which of its columns the title names.
    """
    by_row = table.set_index("store_row").to_dict("index")

    def picture(row: int) -> Doubt:
        values = by_row[row]
        said = ", ".join(f"{name.replace('_', ' ')} {_text(values[name])}" for name in columns)
        return Doubt(f"{title(store, row, float(values['suspicion']))}; {said}", pictures(store, row))

    return Doubts(table, picture)


def title(store: PatchStore, row: int, suspicion: float) -> str:
    """Title of a patch's panel."""
    return f"{store.index['patch_id'].iloc[row]}: suspicion {suspicion:.2f}"


def pictures(store: PatchStore, row: int) -> dict[str, Any]:
    """Composites of a patch by their heading; its first band where its bands allow none."""
    for name, role in store.roles.items():
        dn = np.asarray(store.array(name)[row])
        found = {"true colour": composite(dn, role, TRUE_COLOUR), "NIR, red, green": composite(dn, role, FALSE_COLOUR)}
        shown = {heading: picture for heading, picture in found.items() if picture is not None}
        if shown:
            return shown
    first = np.asarray(store.array(next(iter(store.roles), IMAGES))[row][0], np.float32)
    return {"first band": np.nan_to_num(first)}


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
