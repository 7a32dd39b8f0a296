"""A finished hyper-parameter study as an asset: its trials, its best recipe, figures and a report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import InvalidReport
from cloud_assets.learning.search_space import Recipe, SearchSpace, Value
from cloud_assets.learning.study_recipe import StudyOutcome, StudyRecipe, Trial
from cloud_assets.reports.contents import read_figures, write_figures
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class HyperparameterStudy:
    """What a search found, and the recipe to train with.

    Saved as a folder: ``trials.parquet`` (one row a trial), ``best_recipe.json``, ``figures/*.png``, ``report.html``
    and ``study.json`` (everything else).
    """

    outcome: StudyOutcome
    """The trials and how they came about."""
    base: Mapping[str, Any]
    """The recipe that the trials started from, as JSON."""
    tuned: Mapping[str, Any]
    """The same recipe with the best trial's values."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG images by name."""
    importances: Mapping[str, float] = field(default_factory=dict)
    """How much each parameter decides whether a trial is among the best, largest first."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """When it was put together (UTC, ISO 8601)."""

    @classmethod
    def of(cls, outcome: StudyOutcome, base: BaseModel) -> HyperparameterStudy:
        """Draws the figures of a study.

        Args:
            outcome: What :func:`cloud_assets.lifecycle.tuning.run_study` returned.
            base: The recipe that it started from.
        """
        from cloud_assets.lifecycle.study_figures import importances, study_figures

        return cls(
            outcome,
            base.model_dump(mode="json"),
            outcome.best_recipe(base).model_dump(mode="json"),
            study_figures(outcome),
            importances(outcome) if outcome.trials else {},
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

    def trials_table(self) -> pd.DataFrame:
        """One row a trial, best first, those without a value last; parameters by the last part of their path."""
        import pandas as pd

        sign = -1.0 if self.outcome.recipe.mode == "max" else 1.0
        order = {"complete": 0, "pruned": 1, "failed": 2, "interrupted": 3}
        trials = sorted(self.outcome.trials, key=lambda trial: (order[trial.state], sign * (trial.value or 0.0)))
        short = _short_names(list(self.outcome.space.root))
        rows = [
            {
                "trial": trial.number,
                "state": trial.state,
                self.outcome.recipe.metric: trial.value,
                "epochs": len(trial.epochs),
                "seconds": trial.seconds,
                **{short[path]: _shown(value) for path, value in trial.parameters.items()},
                "remark": trial.reason if trial.retry_of is None else f"repeats {trial.retry_of} {trial.reason}",
            }
            for trial in trials
        ]
        return pd.DataFrame(rows)

    def save(self, directory: Path) -> None:
        """Writes the study to a folder, which is replaced as a whole.

        Args:
            directory: The folder to make or replace.
        """
        from cloud_assets.lifecycle.study_report import study_page
        from cloud_assets.reports.page import render

        outcome = self.outcome
        best = outcome.best
        with atomic_directory(directory) as folder:
            _write_trials(outcome.trials, folder / "trials.parquet")
            _write_json(
                folder / "best_recipe.json",
                {
                    "trial": None if best is None else best.number,
                    outcome.recipe.metric: None if best is None else best.value,
                    "parameters": {} if best is None else dict(best.parameters),
                    "recipe": self.tuned,
                },
            )
            _write_json(
                folder / "study.json",
                {
                    "schema_version": SCHEMA_VERSION,
                    "task": outcome.task,
                    "variant": outcome.variant,
                    "name": outcome.name,
                    "recipe": outcome.recipe.model_dump(mode="json", exclude={"storage"}),
                    "space": outcome.space.model_dump(mode="json"),
                    "patches_version": outcome.patches_version,
                    "splits_version": outcome.splits_version,
                    "is_synthetic": outcome.is_synthetic,
                    "seconds": outcome.seconds,
                    "notes": list(outcome.notes),
                    "base": self.base,
                    "tuned": self.tuned,
                    "importances": dict(self.importances),
                    "figures": write_figures(self.figures, folder / "figures"),
                    "created": self.created,
                },
            )
            (folder / "report.html").write_text(render(study_page(self)), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> HyperparameterStudy:
        """Reads a study that :meth:`save` wrote.

        Args:
            directory: The study's folder.

        Raises:
            InvalidReport: If the folder holds none, half of one, or one of another schema version.
        """
        try:
            content = json.loads((directory / "study.json").read_text(encoding="utf-8"))
            if content.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError("it has another schema version")
            own = {name: content.pop(name) for name in ("base", "tuned", "importances", "created")}
            figures = read_figures(content.pop("figures"), directory / "figures")
            outcome = StudyOutcome(
                recipe=StudyRecipe.model_validate(content.pop("recipe")),
                space=SearchSpace.model_validate(content.pop("space")),
                trials=_read_trials(directory / "trials.parquet"),
                notes=tuple(content.pop("notes")),
                **content,
            )
            return cls(outcome=outcome, figures=figures, **own)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidReport(
                f"{directory} holds no study that this version can read ({error}). Materialise the study again: its "
                "finished trials are kept in its storage."
            ) from error


def _shown(value: Value) -> str | float:
    return value if isinstance(value, float) else str(value)


def _short_names(paths: list[str]) -> dict[str, str]:
    """The last part of each path, or the whole path where two would be called the same."""
    last = [path.rpartition(".")[2] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}


def _write_trials(trials: Sequence[Trial], path: Path) -> None:
    import pandas as pd

    columns = ("number", "state", "value", "started", "finished", "reason", "retry_of")
    rows = [
        {
            **{name: getattr(trial, name) for name in columns},
            "parameters": json.dumps(dict(trial.parameters)),
            "epochs": json.dumps(list(trial.epochs.items())),
        }
        for trial in trials
    ]
    table = pd.DataFrame(rows, columns=[*columns, "parameters", "epochs"])
    types = {"number": "int64", "value": "float64", "retry_of": "Int64", "state": "str", "reason": "str"}
    table.astype(types).to_parquet(path, index=False)


def _read_trials(path: Path) -> tuple[Trial, ...]:
    import pandas as pd

    table = pd.read_parquet(path)
    return tuple(
        Trial(
            number=int(row["number"]),
            state=row["state"],
            value=None if pd.isna(row["value"]) else float(row["value"]),
            parameters=json.loads(row["parameters"]),
            epochs=dict(json.loads(row["epochs"])),
            started=None if pd.isna(row["started"]) else row["started"].to_pydatetime(),
            finished=None if pd.isna(row["finished"]) else row["finished"].to_pydatetime(),
            reason=row["reason"],
            retry_of=None if pd.isna(row["retry_of"]) else int(row["retry_of"]),
        )
        for row in table.to_dict("records")
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
