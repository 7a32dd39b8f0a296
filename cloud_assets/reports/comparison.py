"""A task's variants side by side, ranked by the metric of its gate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.contents import read_figures, read_tables, write_figures, write_tables
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.formatting import readable
from cloud_assets.reports.gate import Decision, Gate
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.patches.splits import Splits

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Comparison:
    """The variants of one task, ranked. Saved as a folder like an :class:`Evaluation`."""

    task: str
    """Name of the task."""
    gate: Gate
    """The gate whose metric ranks the variants."""
    ranking: Sequence[str]
    """The variants' names, best first."""
    metrics: Mapping[str, Mapping[str, float]]
    """Each variant's metrics."""
    model_versions: Mapping[str, str]
    """Each variant's model version."""
    table: pd.DataFrame
    """One row a variant, best first, and one a trivial baseline; columns: name, kind, the metrics of the test split."""
    figures: Mapping[str, bytes]
    """PNG images by name."""
    patches_version: str
    """Data version of the patch store that all were evaluated on."""
    splits_version: str
    """Data version of the splits that all were evaluated on."""
    is_synthetic: bool
    """True if the test data are simulated."""
    notes: Sequence[str] = ()
    """What a reader of the numbers has to know."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """One sentence for each figure or table, by its name."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """Time of the comparison (UTC, ISO 8601)."""

    @property
    def best(self) -> str:
        """Name of the best variant by the gate's metric."""
        return self.ranking[0]

    @property
    def decision(self) -> Decision:
        """Whether the best variant passes the gate, leaving a present champion out of account."""
        return self.gate.passes(self.metrics[self.best])

    @property
    def data_version(self) -> str:
        """Hash of what was compared."""
        content = [self.task, self.gate.model_dump(), self.model_versions, self.patches_version, self.splits_version,
                   self.metrics]  # fmt: skip
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def save(self, directory: Path) -> None:
        """Writes the comparison to a folder, which is replaced as a whole.

        Args:
            directory: The folder to make or replace.
        """
        from cloud_assets.reports.page import comparison_page, render

        with atomic_directory(directory) as folder:
            content = {
                "schema_version": SCHEMA_VERSION,
                "task": self.task,
                "gate": self.gate.model_dump(mode="json"),
                "ranking": list(self.ranking),
                "metrics": {variant: dict(metrics) for variant, metrics in self.metrics.items()},
                "model_versions": dict(self.model_versions),
                "patches_version": self.patches_version,
                "splits_version": self.splits_version,
                "is_synthetic": self.is_synthetic,
                "notes": list(self.notes),
                "captions": dict(self.captions),
                "created": self.created,
                "table": write_tables({"ranking": self.table}, folder / "tables"),
                "figures": write_figures(self.figures, folder / "figures"),
            }
            text = json.dumps(content, indent=2, allow_nan=False) + "\n"
            (folder / "comparison.json").write_text(text, encoding="utf-8")
            (folder / "report.html").write_text(render(comparison_page(self)), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Comparison:
        """Reads a comparison that :meth:`save` wrote.

        Args:
            directory: The comparison's folder.

        Returns:
            The same comparison.

        Raises:
            InvalidReport: If the folder holds none, half of one, or one of another schema version.
        """
        try:
            content = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
            if content.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError("it has another schema version")
            gate = Gate.model_validate(content.pop("gate"))
            table = read_tables(content.pop("table"), directory / "tables")["ranking"]
            figures = read_figures(content.pop("figures"), directory / "figures")
            return cls(gate=gate, table=table, figures=figures, **content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidReport(
                f"{directory} holds no comparison that this version can read ({error}). Compare the variants again."
            ) from error


def present_evaluations(evaluations: Mapping[str, Evaluation], splits: Splits) -> dict[str, Evaluation]:
    """The evaluations that were made on these very splits: others are of an earlier state of the data.

    Args:
        evaluations: Evaluations by variant.
        splits: The present splits.
    """
    now = (splits.details["patches_version"], splits.data_version)
    return {
        variant: evaluation
        for variant, evaluation in evaluations.items()
        if (evaluation.patches_version, evaluation.splits_version) == now
    }


def compare(evaluations: Mapping[str, Evaluation], gate: Gate) -> Comparison:
    """Ranks a task's variants by the metric of its gate.

    Args:
        evaluations: Each variant's evaluation, all of one task and on one test split.
        gate: The task's gate.

    Returns:
        The comparison; variants with equal values keep their order.

    Raises:
        InvalidReport: If there is none, if they differ in task or splits, or if one lacks the metric.
    """
    first = _comparable(evaluations, gate)
    ranking = sorted(
        evaluations, key=lambda variant: evaluations[variant].metrics[gate.metric], reverse=gate.mode == "max"
    )
    table = _side_by_side({variant: evaluations[variant] for variant in ranking}, gate)
    from cloud_assets.reports.bars import ranking_bars

    return Comparison(
        task=first.task,
        gate=gate,
        ranking=tuple(ranking),
        metrics={variant: dict(evaluation.metrics) for variant, evaluation in evaluations.items()},
        model_versions={variant: evaluation.model_version for variant, evaluation in evaluations.items()},
        table=table,
        figures={"ranking": ranking_bars(table, gate)},
        patches_version=first.patches_version,
        splits_version=first.splits_version,
        is_synthetic=first.is_synthetic,
        notes=_merged_notes(evaluations),
        captions={"ranking": f"{readable(gate.metric)} on the test split; {_better(gate)} is better."},
    )


def _comparable(evaluations: Mapping[str, Evaluation], gate: Gate) -> Evaluation:
    """The first evaluation, after a check that all are about the same task and test split and have the metric."""
    if not evaluations:
        raise InvalidReport("There is nothing to compare: no variant of the task has been evaluated.")
    first_name, first = next(iter(evaluations.items()))
    for variant, evaluation in evaluations.items():
        for what in ("task", "patches_version", "splits_version"):
            if getattr(evaluation, what) != getattr(first, what):
                raise InvalidReport(
                    f"{variant} and {first_name} differ in their {what.replace('_', ' ')} "
                    f"({getattr(evaluation, what)}, {getattr(first, what)}). Evaluate both on the same splits."
                )
        if gate.metric not in evaluation.metrics:
            raise InvalidReport(
                f"{variant} has no value for the gate's metric {gate.metric!r}. "
                f"It has: {', '.join(evaluation.metrics)}."
            )
    return first


def _side_by_side(ranked: Mapping[str, Evaluation], gate: Gate) -> pd.DataFrame:
    """The variants' test metrics, and below them the baselines that their evaluations tell of."""
    import pandas as pd

    def of_the_test_split(name: str) -> bool:
        return not name.startswith(("validation_", "baseline_"))

    rows = [
        {"name": variant, "kind": "variant"} | {k: v for k, v in evaluation.metrics.items() if of_the_test_split(k)}
        for variant, evaluation in ranked.items()
    ]
    first = next(iter(ranked.values()))
    if "baselines" in first.tables:
        for record in first.tables["baselines"].to_dict("records"):
            rows.append({"name": record.pop("baseline"), "kind": "baseline"} | {str(k): v for k, v in record.items()})
    table = pd.DataFrame(rows)
    leading = ["name", "kind", gate.metric]
    return table[leading + [column for column in table.columns if column not in leading]]


def _merged_notes(evaluations: Mapping[str, Evaluation]) -> tuple[str, ...]:
    """The notes that all variants share, then those of single variants with their names."""
    shared = [
        note
        for note in next(iter(evaluations.values())).notes
        if all(note in other.notes for other in evaluations.values())
    ]
    own = [f"{name}: {note}" for name, one in evaluations.items() for note in one.notes if note not in shared]
    return (*shared, *own)


def _better(gate: Gate) -> str:
    return "more" if gate.mode == "max" else "less"
