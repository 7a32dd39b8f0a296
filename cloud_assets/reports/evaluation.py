"""What an evaluation found out about one model: numbers, tables, pictures and the report that shows them."""

from __future__ import annotations

import hashlib
import json
import math
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

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """A model's evaluation on its task's test split.

    Saved as a folder: ``metrics.json`` (flat, finite numbers), ``tables/*.csv``, ``figures/*.png``, ``report.html``
    (one self-contained page) and ``evaluation.json`` (everything else).

    Raises:
        InvalidReport: If a metric is not a finite number. What cannot be measured is left out and noted.
    """

    task: str
    """Name of the task."""
    variant: str
    """Name of the task's variant."""
    metrics: Mapping[str, float]
    """Flat: the test split's metrics by their standard names, the validation split's with ``validation_`` before them,
    those of trivial baselines with ``baseline_``."""
    model_version: str
    """Version of the :class:`ModelBundle` that was evaluated."""
    patches_version: str
    """Data version of the patch store."""
    splits_version: str
    """Data version of the splits."""
    is_synthetic: bool
    """True if the test data are simulated: the numbers then say nothing about real imagery."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Tables by name. ``per_scene`` has one row a group; ``baselines`` one row a trivial baseline."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG images by name, in the order in which the report shows them."""
    notes: Sequence[str] = ()
    """What a reader of the numbers has to know: limits, things left out."""
    headline: Sequence[str] = ()
    """Names of the metrics that the report shows first."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """One sentence for each figure or table, by its name."""
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Sections of labelled facts for the report: the data, the model, its training."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """Time of the evaluation (UTC, ISO 8601)."""

    def __post_init__(self) -> None:
        wrong = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        if wrong:
            raise InvalidReport(
                f"{self.task}/{self.variant}: the metrics {', '.join(wrong)} are not finite numbers. Leave out what "
                "the test split cannot tell and say so in the notes."
            )

    @property
    def data_version(self) -> str:
        """Hash of what was measured and on what; equal evaluations have equal versions, whenever they were made."""
        content = [
            self.task, self.variant, self.model_version, self.patches_version, self.splits_version,
            dict(sorted(self.metrics.items())),
        ]  # fmt: skip
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def save(self, directory: Path) -> None:
        """Writes the evaluation to a folder, which is replaced as a whole.

        Args:
            directory: The folder to make or replace.
        """
        from cloud_assets.reports.page import evaluation_page, render

        with atomic_directory(directory) as folder:
            content: dict[str, Any] = {
                "schema_version": SCHEMA_VERSION,
                "task": self.task,
                "variant": self.variant,
                "model_version": self.model_version,
                "patches_version": self.patches_version,
                "splits_version": self.splits_version,
                "is_synthetic": self.is_synthetic,
                "created": self.created,
                "notes": list(self.notes),
                "headline": list(self.headline),
                "captions": dict(self.captions),
                "facts": {section: dict(facts) for section, facts in self.facts.items()},
                "tables": write_tables(self.tables, folder / "tables"),
                "figures": write_figures(self.figures, folder / "figures"),
            }
            _write_json(folder / "metrics.json", dict(self.metrics))
            _write_json(folder / "evaluation.json", content)
            (folder / "report.html").write_text(render(evaluation_page(self)), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Evaluation:
        """Reads an evaluation that :meth:`save` wrote.

        Args:
            directory: The evaluation's folder.

        Returns:
            The same evaluation.

        Raises:
            InvalidReport: If the folder holds none, half of one, or one of another schema version.
        """
        try:
            content = json.loads((directory / "evaluation.json").read_text(encoding="utf-8"))
            metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
            if content.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError("it has another schema version")
            tables = read_tables(content.pop("tables"), directory / "tables")
            figures = read_figures(content.pop("figures"), directory / "figures")
            return cls(metrics=metrics, tables=tables, figures=figures, **content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidReport(
                f"{directory} holds no evaluation that this version can read ({error}). Evaluate the model again."
            ) from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
