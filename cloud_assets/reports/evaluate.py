"""What the evaluations of all families have in common: metrics of splits and rules, tables, notes, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import NoUsablePatches
from cloud_assets.reports.bootstrap import metric_interval
from cloud_assets.reports.curves import learning_curves
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.formatting import readable
from cloud_assets.reports.report_sections import changed_settings, inherited_notes, report_sections, splits_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from pydantic import BaseModel

    from cloud_assets.inference.bundle import ModelBundle, ModelCard
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore

Metrics = Mapping[str, float]
CAPTIONS = {
    "learning_curves": "From the training record in the model card; validation split.",
    "splits": "No scene or region is in two splits.",
}
_FEW_SCENES = 10


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a family found out about a model on a test split."""

    test: Metrics
    """Metrics of the test split by their standard names."""
    validation: Metrics
    """Metrics of the validation split; empty where there are none."""
    rules: Mapping[str, Metrics]
    """Metrics of rules without a network on the same test samples, by the rules' names as readers see them."""
    stated_rules: Mapping[str, str]
    """Which rules' metrics go among the evaluation's: one of
    :data:`~cloud_assets.reports.gate.TRIVIAL_RULES` -> name of the rule."""
    tables: Mapping[str, pd.DataFrame]
    """Tables by name, besides those of baselines and splits."""
    figures: Mapping[str, bytes | None]
    """Figures by name, besides the learning curves; None for what the data do not allow."""
    captions: Mapping[str, str]
    """One sentence for each figure or table."""
    notes: Sequence[str]
    """What a reader has to know, most important first."""
    headline: Sequence[str]
    """Names of the metrics that are shown first."""
    model: Mapping[str, str] = field(default_factory=dict)
    """More values for the section on the model."""
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """More sections, by heading."""


@dataclass(frozen=True)
class EvaluationRun:
    """One evaluation: the model ready to predict, and the patches that it is judged on."""

    predictor: Predictor
    model_version: str
    store: PatchStore
    splits: Splits
    references: Mapping[str, ModelBundle] = field(default_factory=dict)
    """Models of other tasks to compare with, by the name of their task."""
    progress: bool = True

    @property
    def card(self) -> ModelCard:
        """The card of the model."""
        return self.predictor.card

    def test_rows(self, *, needs_masks: bool) -> npt.NDArray[np.int64]:
        """The rows of the test split.

        Raises:
            NoUsablePatches: If there are none, or no masks although the family needs them.
        """
        rows = self.splits.indices("test")
        if not len(rows) or (needs_masks and not self.store.has_masks):
            problem = "has no masks" if len(rows) else "is empty"
            raise NoUsablePatches(
                f"{self.card.task}/{self.card.variant}: the test split {problem}. Look at the splits."
            )
        return rows


def evaluation_of(evaluator: BaseModel, run: EvaluationRun, found: Findings) -> Evaluation:
    """Puts an evaluation together."""
    import pandas as pd

    card, store, splits = run.card, run.store, run.splits
    metrics = {**found.test, **{f"validation_{name}": value for name, value in found.validation.items()}}
    for prefix, rule in found.stated_rules.items():
        metrics |= {f"{prefix}_{name}": value for name, value in found.rules.get(rule, {}).items()}
    figures = {**found.figures, "learning_curves": learning_curves(card.training.history, card.training.best_epoch)}
    notes = list(found.notes)
    if card.training.splits_version != splits.data_version:
        notes.append(
            "The model was trained with other splits than it is tested with here: some of the test patches may have "
            "been among its training patches, which flatters it."
        )
    return Evaluation(
        task=card.task,
        variant=card.variant,
        metrics=metrics,
        tables={
            "baselines": pd.DataFrame([{"baseline": name, **values} for name, values in found.rules.items()]),
            **found.tables,
            "splits": splits_table(store, splits),
        },
        figures={name: png for name, png in figures.items() if png is not None},
        notes=(*notes, *inherited_notes(store, card)),
        headline=found.headline,
        captions={**CAPTIONS, **found.captions},
        sections=report_sections(store, card, model=found.model, **found.sections),
        model_version=run.model_version,
        patches_version=store.data_version,
        splits_version=splits.data_version,
        is_synthetic=store.is_synthetic,
        recipe=evaluator.model_dump(mode="json"),
        references={task: bundle.version for task, bundle in run.references.items()},
    )


def with_changed_settings(evaluation: Evaluation, recipe: Mapping[str, Any], declared: Mapping[str, Any]) -> Evaluation:
    """The evaluation with a first section on what differs between the recipe trained with and the declared one."""
    changed = changed_settings(recipe, declared) or {"all settings": "as the task declares"}
    return replace(evaluation, sections={"Changed settings": changed, **evaluation.sections})


def interval_note(per_scene: pd.DataFrame, metric: str) -> list[str]:
    """A sentence on the confidence interval of a metric over scenes; none for fewer than two scenes."""
    interval = metric_interval(per_scene, metric)
    if interval is None:
        return []
    rough = ", few scenes: a rough guide" if interval.groups < _FEW_SCENES else ""
    return [
        f"{readable(metric)} {interval.estimate:.3f}, 95 % interval {interval.low:.3f} to {interval.high:.3f} "
        f"(bootstrap over {interval.groups} scenes{rough})."
    ]
