"""A task's variants side by side, ranked by the metric of its gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.bootstrap import Interval, model_interval
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.figures import ranking_bars
from cloud_assets.reports.gate import TRIVIAL_RULES, Decision, Gate
from cloud_assets.reports.report import Page, Report, Tile, format_number, job_commands, readable

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.patches.splits import Splits

_RANKING = "ranking"


@dataclass(frozen=True, kw_only=True)
class Comparison(Report):
    """The variants of one task, ranked."""

    file: ClassVar[str] = "comparison.json"
    remedy: ClassVar[str] = "Compare the variants again."

    task: str
    gate: Gate
    """The gate that ranks the variants and that promotion applies."""
    ranking: Sequence[str]
    """The variants' names, best first."""
    metrics: Mapping[str, Mapping[str, float]]
    """Each variant's metrics."""
    model_versions: Mapping[str, str]
    """Each variant's model version."""
    patches_version: str
    splits_version: str
    """Of the patches and splits that all were evaluated on."""
    is_synthetic: bool
    """True if the test data are simulated."""
    best_interval: Interval | None = None
    """Confidence interval of the best variant's metric; None if there is none."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a variant, best first, and one a trivial rule; columns: name, kind, the metrics of the test split."""
        return self.tables[_RANKING]

    @property
    def best(self) -> str:
        """Name of the best variant by the gate's metric."""
        return self.ranking[0]

    @property
    def decision(self) -> Decision:
        """Whether the best variant passes the gate, leaving a present champion out of account."""
        return self.gate.passes(self.metrics[self.best], self.best_interval)

    def page(self) -> Page:
        """The ranking, whether the best variant passes the gate, and all metrics side by side."""
        metric = self.gate.metric
        by_metric = self.table.drop(columns="kind").set_index("name").T.rename_axis("metric").reset_index()
        return Page(
            title=f"{self.task} / comparison",
            subtitle=f"Variants ranked by {readable(metric)} on the same test split, {self.created}",
            is_synthetic=self.is_synthetic,
            tiles=[
                Tile(f"{position}. {variant}", format_number(self.metrics[variant][metric]), readable(metric))
                for position, variant in enumerate(self.ranking, start=1)
            ],
            summary=f"Best variant: {self.best}; {self.decision.reason}.",
            tables={"all_metrics": by_metric},
            sections={
                "Versions": {
                    **{f"model {variant}": version for variant, version in self.model_versions.items()},
                    "patches": self.patches_version,
                    "splits": self.splits_version,
                }
            },
            commands=job_commands(self.task),
        )


def present_evaluations(evaluations: Mapping[str, Evaluation], splits: Splits) -> dict[str, Evaluation]:
    """The evaluations that were made on these very splits: others are of an earlier state of the data."""
    now = (splits.details["patches_version"], splits.data_version)
    return {
        variant: evaluation
        for variant, evaluation in evaluations.items()
        if (evaluation.patches_version, evaluation.splits_version) == now
    }


def compare(evaluations: Mapping[str, Evaluation], gate: Gate) -> Comparison:
    """Ranks a task's variants, evaluated on one test split, by its gate's metric; equal ones keep their order.

    Raises:
        InvalidReport: If there is none, if they differ in task, splits or the settings of the evaluation, or if one
            lacks the metric.
    """
    first = _comparable(evaluations, gate)
    ranking = sorted(
        evaluations, key=lambda variant: evaluations[variant].metrics[gate.metric], reverse=gate.mode == "max"
    )
    table = _side_by_side({variant: evaluations[variant] for variant in ranking}, gate)
    return Comparison(
        task=first.task,
        gate=gate,
        ranking=tuple(ranking),
        metrics={variant: dict(evaluation.metrics) for variant, evaluation in evaluations.items()},
        model_versions={variant: evaluation.model_version for variant, evaluation in evaluations.items()},
        tables={_RANKING: table},
        figures={_RANKING: ranking_bars(table, gate)},
        patches_version=first.patches_version,
        splits_version=first.splits_version,
        is_synthetic=first.is_synthetic,
        best_interval=model_interval(evaluations[ranking[0]], gate.metric, gate.confidence),
        notes=_merged_notes(evaluations),
        captions={_RANKING: f"{readable(gate.metric)} on the test split; {gate.better} is better."},
    )


def _comparable(evaluations: Mapping[str, Evaluation], gate: Gate) -> Evaluation:
    """The first evaluation, after a check that task, test split and settings agree and that all have the metric."""
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
        if evaluation.recipe != first.recipe:
            names = sorted({*evaluation.recipe, *first.recipe})
            differing = [
                f"{name} {evaluation.recipe.get(name)} and {first.recipe.get(name)}"
                for name in names
                if evaluation.recipe.get(name) != first.recipe.get(name)
            ]
            raise InvalidReport(
                f"{variant} and {first_name} were evaluated with different settings ({'; '.join(differing)}). Evaluate "
                "both with the same."
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

    others = ("validation_", *(f"{rule}_" for rule in TRIVIAL_RULES))
    rows = [
        {"name": variant, "kind": "variant"} | {k: v for k, v in one.metrics.items() if not k.startswith(others)}
        for variant, one in ranked.items()
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
