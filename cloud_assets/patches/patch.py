"""One patch, and its row in the index of a patch store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import UNLABELLED
from cloud_assets.patches.store import COVERAGE_NAMES

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Patch:
    """One patch on its way into a store.

    Attributes:
        patch_id: Unique name.
        scene_id: The scene it was cut from.
        group: What a split must not cut.
        images: (C, H, W) digital numbers by role.
        valid: (H, W) bool, False where any role has no data.
        mask: (H, W) uint8 cloud codes, or None without truth.
        row: First row of the patch in its scene.
        col: First column of the patch in its scene.
        crs: Coordinate reference system as text, or None.
        transform: Affine transform (a, b, c, d, e, f) of the patch, or None.
        official_split: train, validation or test as published, or None.
        label_type: How the truth was made (high, scribble, …), or None.
        label: Image-level label, or None.
        attributes: Whatever else the data set tells about the scene.
        source: File that the pixels come from.
    """

    patch_id: str
    scene_id: str
    group: str
    images: Mapping[str, npt.NDArray[Any]]
    valid: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.uint8] | None = None
    row: int = 0
    col: int = 0
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    official_split: str | None = None
    label_type: str | None = None
    label: str | None = None
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    source: str = ""


def index_schema() -> "pa.Schema":
    """Column names and types of ``index.parquet``."""
    import pyarrow as pa

    text = (
        "patch_id",
        "scene_id",
        "group",
        "official_split",
        "label_type",
        "label",
        "crs",
        "content_hash",
        "attributes",
        "source",
    )
    shares = ("valid_fraction", *(f"{name}_percentage" for name in (*COVERAGE_NAMES.values(), "cloud")))
    return pa.schema(
        [(name, pa.string()) for name in text]
        + [(name, pa.int32()) for name in ("row", "col")]
        + [("transform", pa.list_(pa.float64()))]
        + [(name, pa.float64()) for name in shares]
    )


def coverage(mask: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Percentage of each class over the labelled pixels of a mask.

    Args:
        mask: (H, W) uint8 cloud codes, 255 unlabelled or nodata.

    Returns:
        ``clear_percentage``, ``thick_percentage``, ``thin_percentage``, ``cloud_shadow_percentage`` and
        ``cloud_percentage`` (thick and thin together), each in [0, 100], or NaN if nothing is labelled.
    """
    counts = np.bincount(mask.ravel(), minlength=256)
    labelled = int(counts[list(COVERAGE_NAMES)].sum())
    shares = {
        name: 100 * float(counts[code]) / labelled if labelled else float("nan")
        for code, name in COVERAGE_NAMES.items()
    }
    shares["cloud"] = shares["thick"] + shares["thin"]
    return {f"{name}_percentage": share for name, share in shares.items()}


def index_row(
    patch: Patch, valid_fraction: float, mask: npt.NDArray[np.uint8] | None, content_hash: str
) -> dict[str, Any]:
    """The row of a patch in ``index.parquet``.

    Args:
        patch: The patch.
        valid_fraction: Share of its pixels that are valid.
        mask: (H, W) uint8 cloud codes as they are stored, or None without truth.
        content_hash: Hash over its pixels and mask.
    """
    text = ("patch_id", "scene_id", "group", "official_split", "label_type", "label", "crs", "source")
    described = (*text, "row", "col", "transform")
    unlabelled = np.full((1, 1), UNLABELLED, np.uint8)
    return {
        **{name: getattr(patch, name) for name in described},
        "valid_fraction": valid_fraction,
        "content_hash": content_hash,
        "attributes": json.dumps(dict(patch.attributes)),
        **coverage(unlabelled if mask is None else mask),
    }
