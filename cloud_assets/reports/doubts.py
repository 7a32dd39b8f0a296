"""Labels that a model contradicts: the findings about patches, and pictures of patches, labels and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, UNLABELLED
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.composites import FALSE_COLOUR, TRUE_COLOUR, composite
from cloud_assets.reports.style import CLASS_COLOURS, figure_style, png

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from cloud_assets.patches.store import PatchStore


_WIDTH, _PLAIN_SIDE = 10.4, 2.3
_CONTRADICTED = (0.77, 0.15, 0.11)


@dataclass(frozen=True)
class Doubt:
    """A patch whose label is doubted."""

    title: str
    pictures: Mapping[str, npt.NDArray[np.float32]]
    """(H, W, 3) in [0, 1] or (H, W), by their heading."""
    truth: npt.NDArray[np.uint8] | None = None
    """(H, W) cloud codes; None where the label is no mask."""
    cloud_probability: npt.NDArray[np.float32] | None = None
    """(H, W) in [0, 1]."""
    contradicted: npt.NDArray[np.bool_] | None = None
    """(H, W) where the model confidently contradicts the label."""


@dataclass(frozen=True)
class Doubts:
    """How far a model contradicts the labels of patches."""

    table: pd.DataFrame
    """One row a patch: ``store_row``, ``suspicion`` (0: none), and columns that say what label and model are."""
    picture: Callable[[int], Doubt]
    """The panel of a row of the store."""


def without_masks(store: PatchStore, table: pd.DataFrame, *columns: str) -> Doubts:
    """Doubts about labels that are no masks; what label and model say stands in the title of the panel."""
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


def doubt_panels(doubts: Sequence[Doubt]) -> bytes:
    """One row a patch.

    Args:
        doubts: The patches, at least one.

    Returns:
        A PNG image.
    """
    from matplotlib.figure import Figure

    shown = [_columns(doubt) for doubt in doubts]
    columns = max(len(row) for row in shown)
    side = min(_WIDTH / columns, _PLAIN_SIDE)
    with figure_style():
        figure = Figure(figsize=(_WIDTH, (side + 0.55) * len(doubts)))
        rows: Any = figure.subfigures(len(doubts), 1, squeeze=False)
        for row, doubt, pictures in zip(rows[:, 0], doubts, shown, strict=True):
            row.suptitle(doubt.title, x=0.008, ha="left", fontsize=9.5, fontweight="bold")
            for axes, (heading, picture) in zip(
                row.subplots(1, columns, squeeze=False)[0], pictures.items(), strict=False
            ):
                _show(axes, heading, picture)
            for axes in row.axes[len(pictures) :]:
                axes.set_visible(False)
        return png(figure)


def _columns(doubt: Doubt) -> dict[str, npt.NDArray[Any]]:
    if doubt.truth is None or doubt.cloud_probability is None or doubt.contradicted is None:
        return dict(doubt.pictures)
    picture = next(iter(doubt.pictures.values()))
    grey = np.repeat((picture if picture.ndim == 2 else picture.mean(axis=2))[..., None], 3, axis=2)
    marked = np.where(doubt.contradicted[..., None], np.asarray(_CONTRADICTED, np.float32), 0.3 + 0.7 * grey)
    return {
        **doubt.pictures,
        "label": _painted(doubt.truth),
        "model: cloud probability": doubt.cloud_probability,
        "contradicted": marked,
    }


def _painted(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    from matplotlib.colors import to_rgb

    table = np.ones((256, 3), np.float32)
    for code, name in {**CLASS_NAMES, UNLABELLED: "unlabelled"}.items():
        table[code] = to_rgb(CLASS_COLOURS[name])
    return table[codes]


def _show(axes: Axes, heading: str, picture: npt.NDArray[Any]) -> None:
    axes.set_title(heading, fontsize=9.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    if picture.ndim == 2 and heading.startswith("model"):
        axes.imshow(picture, cmap="cividis", vmin=0, vmax=1)
    else:
        axes.imshow(picture, cmap="gray")
