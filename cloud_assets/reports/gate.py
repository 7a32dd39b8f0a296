"""The gate that a model has to pass before it may become the champion of its task."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from cloud_assets.reports.bootstrap import Interval

TRIVIAL_RULES = ("baseline", "all_cloud", "all_clear", "bright_share", "majority", "constant", "linear")
"""Rules without a network whose metrics evaluations state as ``<rule>_<metric>``; every champion has to beat them."""


@dataclass(frozen=True)
class Decision:
    """Whether a model may become champion, and why."""

    accepted: bool
    """True if the candidate passes."""
    reason: str
    """One sentence for the log, the registry's tag and the asset's metadata."""


class Gate(BaseModel):
    """The rule by which variants are ranked and champions are chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    margin: float = Field(
        0.0, ge=0, description="The candidate has to be better than the champion by more than this much."
    )
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

    def passes(self, candidate: Mapping[str, float], interval: "Interval | None" = None) -> Decision:
        """Decides whether a candidate, with these metrics and this interval of the gate's, is good enough at all.

        A metric that is absent or not finite never passes, nor does one that no trivial rule has a value of.
        """
        value = candidate.get(self.metric, math.nan)
        if not math.isfinite(value):
            return Decision(False, f"rejected: the candidate has no value for the gate's metric {self.metric!r}")
        if self.minimum is not None and self.is_better(self.minimum, value):
            bound = "at least" if self.mode == "max" else "at most"
            return Decision(False, f"rejected: {self.metric} {value:.4f}, {bound} {self.minimum:.4f} is asked for")
        rules = self.trivial_values(candidate)
        unmeasured = [name for name in self.must_beat if name not in rules]
        if unmeasured or not rules:
            what = f"{unmeasured[0]!r}, which has to be beaten," if unmeasured else f"{self.metric} of a trivial rule"
            return Decision(False, f"rejected: {what} was not measured, so nothing shows what the training was worth")
        name, best = (max if self.mode == "max" else min)(rules.items(), key=lambda rule: rule[1])
        if not self.is_better(value, best):
            return Decision(False, f"rejected: {self.metric} {value:.4f} does not beat {name} {best:.4f}")
        passed = f"accepted: {self.metric} {value:.4f} passes the gate"
        if interval is not None and not self.is_better(interval.low if self.mode == "max" else interval.high, best):
            passed += (
                f", but its lead over {name} {best:.4f} is within the noise of the test split "
                f"({interval.confidence:.0%} interval {interval.low:.4f} to {interval.high:.4f} over {interval.groups} "
                f"{interval.unit})"
            )
        return Decision(True, passed)

    def decide(
        self,
        candidate: Mapping[str, float],
        champion: Mapping[str, float] | None,
        difference: "Interval | None" = None,
        interval: "Interval | None" = None,
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
        compared = f"{self.metric} {value:.4f} against the champion's {reference:.4f}"
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
