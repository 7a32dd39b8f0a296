"""Labels that a model contradicts: whole samples by confident learning; pictures of patches, labels and predictions.

Northcutt, Jiang & Chuang 2021, *Confident Learning: Estimating Uncertainty in Dataset Labels*, JAIR 70,
https://doi.org/10.1613/jair.1.12125: a sample counts as confidently of another class than its label if the model's
probability for that class reaches the mean probability that the model gives that class where it is the label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, UNLABELLED
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.reports.figures import CLASS_COLOURS, WIDTH, composites, figure_style, painted, png, without_ticks

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.patches.store import PatchStore

_PLAIN_SIDE = 2.3
_CONTRADICTED = (0.77, 0.15, 0.11)


def doubt_classes(
    probability: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """How much the model's probability (N, K) of each class confidently contradicts the labels (N,) of whole samples.

    Returns:
        (N,) the normalised margin of Northcutt et al., the best confident class' probability less the label's, 0 where
        the model is not confident of another class; and (N,) the class that the model says.
    """
    classes = probability.shape[1]
    chosen = [probability[labels == number, number] for number in range(classes)]
    means = [one.mean() if len(one) else 1.0 for one in chosen]
    confident = np.where(probability >= np.asarray(means), probability, -np.inf)
    confident[np.arange(len(labels)), labels] = -np.inf
    said = confident.argmax(axis=1)
    margin = confident[np.arange(len(labels)), said] - probability[np.arange(len(labels)), labels]
    doubted = np.isfinite(margin) & (margin > 0)
    return np.where(doubted, margin, 0.0), np.where(doubted, said, labels).astype(np.int64)


@dataclass(frozen=True)
class Doubt:
    """A patch whose label is doubted."""

    title: str
    pictures: Mapping[str, npt.NDArray[np.float32]]  # (H, W, 3) in [0, 1] or (H, W), by their heading
    truth: npt.NDArray[np.uint8] | None = None  # (H, W) cloud codes; None where the label is no mask
    cloud_probability: npt.NDArray[np.float32] | None = None  # (H, W) in [0, 1]
    contradicted: npt.NDArray[np.bool_] | None = None  # (H, W) where the model confidently contradicts the label


@dataclass(frozen=True)
class Doubts:
    """How far a model contradicts the labels of patches."""

    table: "pd.DataFrame"
    """One row a patch: ``store_row``, ``suspicion`` (0: none), and columns that say what label and model are."""
    picture: Callable[[int], Doubt]  # the panel of a row of the store


def without_masks(store: "PatchStore", table: "pd.DataFrame", *columns: str) -> Doubts:
    """Doubts about labels that are no masks; what label and model say stands in the title of the panel."""
    by_row = table.set_index("store_row").to_dict("index")

    def picture(row: int) -> Doubt:
        values = by_row[row]
        said = ", ".join(f"{name.replace('_', ' ')} {_text(values[name])}" for name in columns)
        return Doubt(f"{title(store, row, float(values['suspicion']))}; {said}", pictures(store, row))

    return Doubts(table, picture)


def title(store: "PatchStore", row: int, suspicion: float) -> str:
    """Title of a patch's panel."""
    return f"{store.index['patch_id'].iloc[row]}: suspicion {suspicion:.2f}"


def pictures(store: "PatchStore", row: int) -> dict[str, npt.NDArray[np.float32]]:
    """Composites of a patch by their heading; its first band where its bands allow none."""
    for name, role in store.roles.items():
        if shown := composites(np.asarray(store.array(name)[row]), role):
            return shown
    first = np.asarray(store.array(next(iter(store.roles), IMAGES))[row][0], np.float32)
    return {"first band": np.nan_to_num(first)}


def doubt_panels(doubts: Sequence[Doubt]) -> bytes:
    """One row a patch, of at least one."""
    from matplotlib.figure import Figure

    shown = [_columns(doubt) for doubt in doubts]
    columns = max(len(row) for row in shown)
    side = min(WIDTH / columns, _PLAIN_SIDE)
    with figure_style():
        figure = Figure(figsize=(WIDTH, (side + 0.55) * len(doubts)))
        rows: Any = figure.subfigures(len(doubts), 1, squeeze=False)
        for row, doubt, pictures in zip(rows[:, 0], doubts, shown, strict=True):
            row.suptitle(doubt.title, x=0.008, ha="left", fontsize=9.5, fontweight="bold")
            places = row.subplots(1, columns, squeeze=False)[0]
            for axes, (heading, picture) in zip(places, pictures.items(), strict=False):
                axes.set_title(heading, fontsize=9.5)
                without_ticks(axes)
                of_model = picture.ndim == 2 and heading.startswith("model")
                axes.imshow(picture, **({"cmap": "cividis", "vmin": 0, "vmax": 1} if of_model else {"cmap": "gray"}))
            for axes in places[len(pictures) :]:
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
        "label": painted(doubt.truth, {**CLASS_NAMES, UNLABELLED: "unlabelled"}, CLASS_COLOURS),
        "model: cloud probability": doubt.cloud_probability,
        "contradicted": marked,
    }


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
