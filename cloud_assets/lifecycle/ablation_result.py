"""An ablation: what each ingredient of a recipe is worth, as tables, figures and a report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.contents import read_figures, read_tables, write_figures, write_tables
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.families.segmentation.mask_scores import MaskScores

SCHEMA_VERSION = 1
SETS = ("hardened", "validation", "test")
"""What rows are judged on: the validation split with simulated patches beside it, that split alone, the test split."""
CURVE_SETS = ("hardened", "all")
"""The same for the learning curve: a model without one real patch may be judged on all of them."""


@dataclass(frozen=True)
class ScoredRow:
    """One training, or one rule without training, and what it scored."""

    row: str
    """Name of the row of the table."""
    kind: str
    """``row``, ``peer`` or ``curve``."""
    seed: int | None
    """Seed of the training; None for peers."""
    patches: int | None
    """Number of simulated patches, for the learning curve."""
    seconds: float
    """Time of the training."""
    threshold: float
    """Decision threshold; NaN for peers."""
    scores: Mapping[str, MaskScores]
    """Counts by the set that was judged."""

    def as_record(self) -> dict[str, Any]:
        """One line of the table of all trainings: ``test_iou`` and so on."""
        record: dict[str, Any] = {
            "row": self.row,
            "kind": self.kind,
            "seed": self.seed,
            "patches": self.patches,
            "seconds": round(self.seconds, 1),
            "threshold": self.threshold,
        }
        for name, scores in self.scores.items():
            record |= {f"{name}_{metric}": value for metric, value in scores.metrics().items()}
        return record


@dataclass(frozen=True)
class Ablation:
    """Everything that an ablation found, saved as a folder.

    ``tables/*.csv`` (``summary``: one line a row with mean and spread; ``trainings``: one line a training; ``curve``),
    ``figures/*.png``, ``report.html`` and ``ablation.json`` (everything else).
    """

    task: str
    """Name of the task."""
    variant: str
    """The variant whose recipe was taken apart."""
    tables: Mapping[str, pd.DataFrame]
    """Tables by name."""
    recipe: Mapping[str, Any]
    """The ablation's recipe as JSON."""
    patches_version: str
    """Data version of the patches."""
    splits_version: str
    """Data version of the splits."""
    is_synthetic: bool
    """Whether the patches are simulated."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG images by name."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """One sentence for each figure or table."""
    notes: Sequence[str] = ()
    """What a reader has to know."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """When it was put together (UTC, ISO 8601)."""

    @property
    def data_version(self) -> str:
        """Hash of what was measured."""
        text = self.patches_version + self.splits_version + self.tables["trainings"].drop(columns="seconds").to_json()
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def metrics(self) -> dict[str, float]:
        """Means and spreads of the summary, by ``<row>/<column>``."""
        summary = self.tables["summary"]
        return {
            f"{record['row']}/{name}": float(value)
            for record in summary.to_dict("records")
            for name, value in record.items()
            if isinstance(value, float) and value == value
        }

    def save(self, directory: Path) -> None:
        """Writes the ablation to a folder, which is replaced as a whole.

        Args:
            directory: The folder to make or replace.
        """
        from cloud_assets.lifecycle.ablation_report import ablation_page
        from cloud_assets.reports.page import render

        with atomic_directory(directory) as folder:
            content = {
                "schema_version": SCHEMA_VERSION,
                **{
                    name: getattr(self, name)
                    for name in ("task", "variant", "patches_version", "splits_version", "is_synthetic", "created")
                },
                "recipe": dict(self.recipe),
                "captions": dict(self.captions),
                "notes": list(self.notes),
                "tables": write_tables(self.tables, folder / "tables"),
                "figures": write_figures(self.figures, folder / "figures"),
            }
            (folder / "ablation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (folder / "report.html").write_text(render(ablation_page(self)), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Ablation:
        """Reads an ablation that :meth:`save` wrote.

        Args:
            directory: The ablation's folder.

        Raises:
            InvalidReport: If the folder holds none, half of one, or one of another schema version.
        """
        try:
            content = json.loads((directory / "ablation.json").read_text(encoding="utf-8"))
            if content.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError("it has another schema version")
            tables = read_tables(content.pop("tables"), directory / "tables")
            figures = read_figures(content.pop("figures"), directory / "figures")
            return cls(tables=tables, figures=figures, **content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidReport(
                f"{directory} holds no ablation that this version can read ({error}). Materialise it again: its "
                "finished trainings are kept."
            ) from error


def tabulated(scored: Sequence[ScoredRow]) -> dict[str, pd.DataFrame]:
    """The tables of an ablation.

    Args:
        scored: All trainings and peers, in the order of the rows.

    Returns:
        ``summary`` (mean over the seeds, and ``…_spread``, the sample standard deviation), ``curve`` where there is
        one, and ``trainings``.
    """
    import pandas as pd

    records = pd.DataFrame([one.as_record() for one in scored])
    tables = {"summary": _summary(records[records["kind"] != "curve"], "row")}
    curve = records[records["kind"] == "curve"]
    if len(curve):
        tables["curve"] = _summary(curve, "patches")
    return {**tables, "trainings": records}


def _summary(records: pd.DataFrame, key: str) -> pd.DataFrame:
    """One line a value of ``key``, in their first order."""
    import pandas as pd

    skipped = {"row", "kind", "seed", "patches", "seconds", "threshold"}
    names = [name for name in records.columns if name not in skipped and records[name].notna().any()]
    lines = []
    for value, group in records.groupby(key, sort=False):
        line: dict[str, Any] = {key: value, "trainings": int(group["seed"].notna().sum())}
        for name in names:
            line[name] = float(group[name].mean())
            line[f"{name}_spread"] = float(group[name].std()) if len(group) > 1 else float("nan")
        lines.append(line)
    return pd.DataFrame(lines)
