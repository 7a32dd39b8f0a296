"""A finished hyper-parameter study: trials, best recipe, figures, report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from cloud_assets.learning.search_space import Recipe, Value
from cloud_assets.learning.study_recipe import StudyOutcome
from cloud_assets.reports.formatting import format_number, readable
from cloud_assets.reports.page import SYNTHETIC_BANNER, Page, Tile, figure_views, job_commands, table_views
from cloud_assets.reports.report import Report

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

_TRIALS = "trials"


@dataclass(frozen=True, kw_only=True)
class HyperparameterStudy(Report):
    """What a search found, and the recipe to train with.

    ``best_recipe.json`` in its folder is the recommended recipe.
    """

    file: ClassVar[str] = "study.json"
    remedy: ClassVar[str] = "Materialise the study again: its finished trials are kept in its storage."

    outcome: StudyOutcome
    """The trials and how they came about; without the address of the storage, which may hold a password."""
    base: Mapping[str, Any]
    """The recipe that the trials started from, as JSON."""
    tuned: Mapping[str, Any]
    """The same recipe with the best trial's values."""
    importances: Mapping[str, float] = field(default_factory=dict)
    """How much each parameter decides whether a trial is among the best, largest first."""

    @classmethod
    def of(cls, outcome: StudyOutcome, base: BaseModel) -> HyperparameterStudy:
        """Draws the figures of a study.

        Args:
            outcome: What :func:`cloud_assets.lifecycle.tuning.run_study` returned.
            base: The recipe that it started from.
        """
        from cloud_assets.lifecycle.study_figures import CAPTIONS, importances, study_figures

        return cls(
            outcome=replace(outcome, recipe=outcome.recipe.model_copy(update={"storage": None})),
            base=base.model_dump(mode="json"),
            tuned=outcome.best_recipe(base).model_dump(mode="json"),
            figures=study_figures(outcome),
            captions={**CAPTIONS, _TRIALS: "Best first; interrupted trials were run again under another number."},
            importances=importances(outcome) if outcome.trials else {},
        )

    def best_recipe(self, base: Recipe) -> Recipe:
        """A recipe with the best trial's values; the recipe itself if no trial was run.

        Args:
            base: Any recipe that has the searched fields, for example that of another variant.

        Raises:
            InvalidRecipe: If it lacks a searched field or refuses a value.
        """
        return self.outcome.best_recipe(base)

    @property
    def data_version(self) -> str:
        """Changes when the values that it recommends do: more trials alone make nothing downstream stale."""
        best = self.outcome.best
        recommended = {} if best is None else dict(best.parameters)
        return hashlib.blake2b(json.dumps(recommended, sort_keys=True).encode(), digest_size=16).hexdigest()

    def extra_files(self) -> Mapping[str, Mapping[str, Any]]:
        """``best_recipe.json``."""
        best, metric = self.outcome.best, self.outcome.recipe.metric
        content = {
            "trial": None if best is None else best.number,
            metric: None if best is None else best.value,
            "parameters": {} if best is None else dict(best.parameters),
            "recipe": self.tuned,
        }
        return {"best_recipe.json": content}

    def page(self) -> Page:
        """The best values, the trials, figures and how was searched."""
        outcome = self.outcome
        tables = {"best_values": best_values_table(self)} if outcome.best is not None else {}
        if outcome.trials:
            tables[_TRIALS] = trials_table(outcome)
        return Page(
            title=f"{outcome.task} / hyperparameter study",
            subtitle=f"Search for {outcome.variant}, {self.created}",
            banner=SYNTHETIC_BANNER if outcome.is_synthetic else "",
            tiles=_tiles(self),
            notes=(*outcome.notes, *study_notes(self)),
            figures=figure_views(self.figures, self.captions),
            tables=table_views(tables, self.captions),
            sections={
                "Search": {
                    name.replace("_", " "): str(value)
                    for name, value in outcome.recipe.model_dump(exclude={"storage"}).items()
                    if value is not None
                },
                "Versions": {
                    "study": outcome.name,
                    "search space": outcome.space.digest,
                    "patches": outcome.patches_version,
                    "splits": outcome.splits_version,
                },
            },
            commands=[
                *job_commands(outcome.task),
                "pip install optuna-dashboard",
                "optuna-dashboard <its storage: the URL, or the journal file that the asset's metadata name>",
            ],
        )


def trials_table(outcome: StudyOutcome) -> pd.DataFrame:
    """One row a trial, best first, those without a value last; parameters by the last part of their path."""
    import pandas as pd

    sign = -1.0 if outcome.recipe.mode == "max" else 1.0
    order = {"complete": 0, "pruned": 1, "failed": 2, "interrupted": 3}
    trials = sorted(outcome.trials, key=lambda trial: (order[trial.state], sign * (trial.value or 0.0)))
    short = _short_names(list(outcome.space.root))
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            outcome.recipe.metric: trial.value,
            "epochs": len(trial.epochs),
            "seconds": trial.seconds,
            **{short[path]: _shown(value) for path, value in trial.parameters.items()},
            "remark": trial.reason if trial.retry_of is None else f"repeats {trial.retry_of} {trial.reason}",
        }
        for trial in trials
    ]
    return pd.DataFrame(rows)


def best_values_table(study: HyperparameterStudy) -> pd.DataFrame:
    """One row a searched field: its value before and after, and how much it matters."""
    import pandas as pd

    best = study.outcome.best
    rows = []
    for path, value in (best.parameters if best is not None else {}).items():
        before: object = study.base
        for name in path.split("."):
            before = before[name] if isinstance(before, dict) else None
        rows.append(
            {
                "field": path,
                "recipe": str(before),
                "best": format_number(value) if isinstance(value, float) else str(value),
                "importance": study.importances.get(path, float("nan")),
            }
        )
    return pd.DataFrame(rows).sort_values("importance", ascending=False, ignore_index=True)


def study_notes(study: HyperparameterStudy) -> list[str]:
    """What a reader has to know about the trials."""
    outcome = study.outcome
    if not outcome.trials:
        return []
    counts = outcome.state_counts()
    described = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    worked = sum(trial.seconds for trial in outcome.trials if trial.seconds == trial.seconds)
    notes = [
        f"{len(outcome.counted)} trials count ({described}); together they trained for {worked / 60:.1f} minutes.",
        f"A trial is worth its best {outcome.recipe.metric}; the test split took no part.",
    ]
    defaults = next((trial for trial in outcome.trials if trial.number == 0 and trial.value is not None), None)
    if outcome.recipe.include_defaults and defaults is not None and outcome.best is not None:
        notes.append(
            f"Trial 0 had the recipe's own values: {format_number(defaults.value)}; the best one reached "
            f"{format_number(outcome.best.value)}."
        )
    return notes


def _tiles(study: HyperparameterStudy) -> list[Tile]:
    outcome, best = study.outcome, study.outcome.best
    if best is None:
        return [Tile("trials", str(len(outcome.counted)), "the recipe's own values are used")]
    leading = [Tile(readable(outcome.recipe.metric), format_number(best.value), f"trial {best.number}")]
    most = list(study.importances)[:3]
    values = [
        Tile(path.rpartition(".")[2].replace("_", " "), format_number(best.parameters[path]), "best value")
        for path in most
    ]
    return [*leading, Tile("trials", str(len(outcome.counted)), f"{outcome.recipe.workers} at a time"), *values]


def _shown(value: Value) -> str | float:
    return value if isinstance(value, float) else str(value)


def _short_names(paths: list[str]) -> dict[str, str]:
    """The last part of each path, or the whole path where two would be called the same."""
    last = [path.rpartition(".")[2] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}
