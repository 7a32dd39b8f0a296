"""A task's variants side by side, ranked by the metric of its gate, which a model has to pass to become champion."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.evaluation import TRIVIAL_RULES, Evaluation
from cloud_assets.reports.figures import ranking_bars
from cloud_assets.reports.report import Page, Report, Tile, format_number, job_commands, readable
from cloud_assets.reports.statistics import Interval, auroc_difference, metric_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

_RANKING = "ranking"


@dataclass(frozen=True)
class Decision:
    """Whether a model may become champion, and why."""

    accepted: bool
    reason: str  # one sentence for the log, the registry's tag and the asset's metadata


class Gate(BaseModel, frozen=True, extra="forbid"):
    """The rule by which variants are ranked and champions are chosen."""

    metric: str = Field(description="Name of the metric that decides, as in metrics.json.")
    mode: Literal["max", "min"] = Field("max", description="Whether more or less of the metric is better.")
    minimum: float | None = Field(
        None, description="The worst value that is let through: a lower bound, or an upper one where less is better."
    )
    must_beat: tuple[str, ...] = Field(
        (),
        description="More metrics in the same evaluation that the candidate's must be better than; trivial rules have "
        "to be beaten in any case.",
    )
    margin: float = Field(0.0, ge=0, description="The candidate has to be better than the champion by more than this.")
    evidence: Literal["interval", "estimate"] = Field(
        "interval",
        description="What has to lie above the margin: the whole confidence interval of the paired difference "
        "(interval; where a test split is too small for one, the difference itself), or the difference (estimate).",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="Confidence level of the interval.")
    approval: Literal["automatic", "manual"] = Field(
        "automatic",
        description="manual: a candidate that passes waits as challenger for `cloud-assets models approve <task>`. "
        "CLOUD_ASSETS_APPROVAL=manual does the same for all tasks.",
    )

    @property
    def better(self) -> str:
        """``more`` or ``less``."""
        return "more" if self.mode == "max" else "less"

    def is_better(self, value: float, reference: float) -> bool:
        """Whether ``value`` is strictly better than ``reference``."""
        return value > reference if self.mode == "max" else value < reference

    def trivial_values(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """What has to be beaten: the metric's values of the evaluation's trivial rules and ``must_beat``, by name."""
        names = (*(f"{rule}_{self.metric}" for rule in TRIVIAL_RULES), *self.must_beat)
        return {name: metrics[name] for name in names if name in metrics}

    def passes(self, candidate: Mapping[str, float], interval: Interval | None = None) -> Decision:
        """Decides whether a candidate, with these metrics and this interval of the gate's, is good enough at all.

        A metric that is absent or not finite never passes, nor does one that no trivial rule has a value of.
        """
        value, shown = candidate.get(self.metric, math.nan), readable(self.metric)
        if not math.isfinite(value):
            return Decision(False, f"rejected: the candidate has no value for the gate's metric {self.metric!r}")
        if self.minimum is not None and self.is_better(self.minimum, value):
            bound = "at least" if self.mode == "max" else "at most"
            return Decision(False, f"rejected: {shown} {value:.4f}, {bound} {self.minimum:.4f} is asked for")
        rules = self.trivial_values(candidate)
        unmeasured = [name for name in self.must_beat if name not in rules]
        if unmeasured or not rules:
            what = f"{unmeasured[0]!r}, which has to be beaten," if unmeasured else f"{self.metric} of a trivial rule"
            return Decision(False, f"rejected: {what} was not measured, so nothing shows what the training was worth")
        name, best = (max if self.mode == "max" else min)(rules.items(), key=lambda rule: rule[1])
        if not self.is_better(value, best):
            return Decision(False, f"rejected: {shown} {value:.4f} does not beat {readable(name)} {best:.4f}")
        passed = f"accepted: {shown} {value:.4f} passes the gate"
        if interval is not None and not self.is_better(interval.low if self.mode == "max" else interval.high, best):
            passed += (
                f", but its lead over {readable(name)} {best:.4f} is within the noise of the test split "
                f"({interval.confidence:.0%} interval of {shown} {interval.low:.4f} to {interval.high:.4f} over "
                f"{interval.groups} {interval.unit})"
            )
        return Decision(True, passed)

    def remedy(self, candidate: Mapping[str, float], interval: Interval | None = None) -> str:
        """What to do about a candidate that does not pass; empty for one that does."""
        if self.passes(candidate, interval).accepted:
            return ""
        bare = self.model_copy(update={"minimum": None}).passes(candidate, interval)
        or_else = ", or lower the gate's minimum" if bare.accepted else ": trivial rules have to be beaten by any gate"
        return f". Train longer (more steps; retrain: true trains the same recipe again) or on more data{or_else}."

    def decide(
        self,
        candidate: Mapping[str, float],
        champion: Mapping[str, float] | None,
        difference: Interval | None = None,
        interval: Interval | None = None,
    ) -> Decision:
        """Decides whether a candidate takes the place of the champion, if any, by the metrics on the same test split.

        ``difference`` is the confidence interval of candidate minus champion, ``interval`` that of the candidate alone.
        A champion stays if its metric is absent or not finite.
        """
        passed = self.passes(candidate, interval)
        if not passed.accepted:
            return passed
        if champion is None:
            return Decision(True, f"{passed.reason}; there is no champion yet")
        value, reference = candidate[self.metric], champion.get(self.metric, math.nan)
        if not math.isfinite(reference):
            why = "so nothing shows that the candidate is not worse; evaluate the champion on this test split"
            return Decision(False, f"rejected: the champion has no value for {self.metric!r}, {why}")
        sign = 1 if self.mode == "max" else -1
        gain = least = sign * (value - reference)
        compared = f"{readable(self.metric)} {value:.4f} against the champion's {reference:.4f}"
        if difference is not None:
            gain, ends = sign * difference.estimate, sorted((sign * difference.low, sign * difference.high))
            least = ends[0] if self.evidence == "interval" else gain
            compared += (
                f", better by {gain:.4f} [{ends[0]:.4f}, {ends[1]:.4f}] ({difference.confidence:.0%} interval of the "
                f"paired difference over {difference.groups} {difference.unit})"
            )
        asked = f"more than {self.margin:g} is asked for" + (
            " of the whole interval" if difference is not None and self.evidence == "interval" else ""
        )
        # An interval that could not be computed is no evidence.
        accepted = math.isfinite(least) and least > self.margin
        return Decision(accepted, f"{'accepted' if accepted else 'rejected'}: {compared}; {asked}")


@dataclass(frozen=True, kw_only=True)
class Comparison(Report):
    """The variants of one task, ranked."""

    file: ClassVar[str] = "comparison.json"
    remedy: ClassVar[str] = "Compare the variants again."

    task: str
    gate: Gate  # the gate that ranks the variants and that promotion applies
    ranking: Sequence[str]  # the variants' names, best first
    metrics: Mapping[str, Mapping[str, float]]
    model_versions: Mapping[str, str]  # both by the variants' names
    patches_version: str
    splits_version: str  # of the patches and splits that all were evaluated on
    is_synthetic: bool  # True if the test data are simulated
    best_interval: Interval | None = None  # confidence interval of the best variant's metric; None if there is none

    @property
    def table(self) -> "pd.DataFrame":
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
            subtitle=f"Variants ranked by {readable(metric)} on the same test split, {self.made_at}",
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


def compare(evaluations: Mapping[str, Evaluation], gate: Gate) -> Comparison:
    """Ranks a task's variants, evaluated on one test split, by its gate's metric; equal ones keep their order.

    Raises:
        InvalidReport: If there is none, if they differ in task, splits or settings, or if one lacks the metric.
    """
    first = comparable(evaluations, gate)
    ranking = sorted(evaluations, key=lambda one: evaluations[one].metrics[gate.metric], reverse=gate.mode == "max")
    table = _side_by_side({variant: evaluations[variant] for variant in ranking}, gate)
    return Comparison(
        task=first.task,
        gate=gate,
        ranking=tuple(ranking),
        metrics={variant: dict(evaluation.metrics) for variant, evaluation in evaluations.items()},
        model_versions={variant: evaluation.model_version for variant, evaluation in evaluations.items()},
        tables={_RANKING: table},
        figures={_RANKING: ranking_bars(table, gate.metric, gate.better, gate.minimum)},
        patches_version=first.patches_version,
        splits_version=first.splits_version,
        is_synthetic=first.is_synthetic,
        best_interval=model_interval(evaluations[ranking[0]], gate.metric, gate.confidence),
        notes=merged_notes(evaluations),
        captions={_RANKING: f"{readable(gate.metric)} on the test split; {gate.better} is better."},
    )


def comparable(evaluations: Mapping[str, Evaluation], gate: Gate) -> Evaluation:
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
        own, other = evaluation.recipe, first.recipe
        names = [name for name in sorted({*own, *other}) if own.get(name) != other.get(name)]
        if names:
            differing = [f"{name} {own.get(name)} and {other.get(name)}" for name in names]
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


def _side_by_side(ranked: Mapping[str, Evaluation], gate: Gate) -> "pd.DataFrame":
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


def merged_notes(evaluations: Mapping[str, Evaluation]) -> tuple[str, ...]:
    """The notes that all variants share, then those of single variants with their names."""
    shared = [
        note for note in next(iter(evaluations.values())).notes if all(note in e.notes for e in evaluations.values())
    ]
    own = [f"{name}: {note}" for name, one in evaluations.items() for note in one.notes if note not in shared]
    return (*shared, *own)


def model_interval(evaluation: Evaluation, metric: str, confidence: float = 0.95) -> Interval | None:
    """Confidence interval of a metric on the test split, over scenes; None if the evaluation keeps nothing for one."""
    per_scene = evaluation.tables.get("per_scene")
    try:
        return None if per_scene is None else metric_interval(per_scene, metric, confidence)
    except InvalidReport:
        return None


def model_difference(
    candidate: Evaluation, champion: Evaluation, metric: str, confidence: float = 0.95
) -> Interval | None:
    """Confidence interval of candidate minus champion by a paired bootstrap: the same samples are drawn for both.

    Returns:
        The interval, over scenes where the evaluations have a ``per_scene`` table, over pictures for ``auroc``; None
        if they keep nothing that the metric could be computed from again, or too few scenes.
    """
    scenes = [evaluation.tables.get("per_scene") for evaluation in (candidate, champion)]
    try:
        if scenes[0] is not None and scenes[1] is not None:
            return paired_difference(scenes[0], scenes[1], metric, confidence)
        pictures = [evaluation.tables.get("per_patch") for evaluation in (candidate, champion)]
        if metric == "auroc" and pictures[0] is not None and pictures[1] is not None:
            return auroc_difference(pictures[0], pictures[1], confidence)
    except InvalidReport:
        return None
    return None
