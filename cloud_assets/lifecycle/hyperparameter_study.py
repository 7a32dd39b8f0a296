"""The report of a hyper-parameter study: its trials, the values it recommends, and Optuna's figures."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import getitem
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from cloud_assets.learning.search_space import Recipe, SearchSpace, StudyRecipe, Value, with_parameters
from cloud_assets.reports.figures import figure_style, png
from cloud_assets.reports.report import Page, Report, Tile, format_number, job_commands, read_captions, readable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from optuna import Study
    from pydantic import BaseModel

    from cloud_assets.learning.training_run import TrainingRun

TrialState = Literal["complete", "pruned", "failed", "interrupted"]
STATES: tuple[TrialState, ...] = get_args(TrialState)
REASON = "reason"  # attribute of a trial in Optuna's storage: why it did not come to its end; None: not of the study
CAPTIONS = read_captions(__package__, "hyperparameter_study")
_SLICE_PARAMETERS = 6
_MOST_LEGEND_ENTRIES = 4
_FEWEST = 2
_FEWEST_FOR_IMPORTANCES = 4


@dataclass(frozen=True)
class Trial:
    """One finished training with one set of values."""

    number: int
    state: TrialState  # ``interrupted`` trials (killed, crashed) are run again under a new number and do not count
    value: float | None  # best value of the metric over its epochs; None if it had none
    parameters: Mapping[str, Value]  # dotted path -> value
    epochs: Mapping[int, float]  # the metric by epoch
    seconds: float
    reason: str  # why it failed, was interrupted, or ended before its time
    retry_of: int | None  # number of the interrupted trial that this one repeats


@dataclass(frozen=True, kw_only=True)
class HyperparameterStudy(Report):
    """What a search found, and the recipe to train with.

    The tables are ``trials`` (one row a trial, best first) and ``best_values`` (one row a searched field).
    ``best_recipe.json`` in its folder is the recommended recipe.
    """

    file: ClassVar[str] = "study.json"
    remedy: ClassVar[str] = "Materialise the study again: its finished trials are kept in its storage."

    task: str
    variant: str  # the variant whose recipe the trials started from
    name: str  # name in Optuna's storage; empty if no trial was asked for
    recipe: StudyRecipe  # how was searched; without the address of the storage, which may hold a password
    space: SearchSpace  # what was varied
    base: Mapping[str, Any]  # the recipe that the trials started from, as JSON
    tuned: Mapping[str, Any]  # the same recipe with the best trial's values
    counts: Mapping[str, int]  # number of trials by state; interrupted ones do not count, as their repetitions do
    best_trial: int | None  # number of the complete trial with the best value; None if there is none
    best_value: float | None
    best_parameters: Mapping[str, Value]  # its values by dotted path
    importances: Mapping[str, float]
    """How much each parameter decides whether a trial is among the best, adding up to 1, largest first."""
    patches_version: str
    splits_version: str
    is_synthetic: bool  # whether the patches are simulated
    captions: Mapping[str, str] = field(default_factory=lambda: CAPTIONS)

    @classmethod
    def of(
        cls, study: "Study | None", recipe: StudyRecipe, space: SearchSpace, base: "BaseModel", run: "TrainingRun"
    ) -> "HyperparameterStudy":
        """Sums up what ``run_study`` returned, None if no trial was asked for, and draws its figures."""
        trials = [] if study is None else finished_trials(study)
        sign = -1.0 if recipe.mode == "max" else 1.0
        order = sorted(trials, key=lambda trial: (STATES.index(trial.state), sign * (trial.value or 0.0), trial.number))
        best = order[0] if order and order[0].state == "complete" else None
        parameters = {} if best is None else best.parameters
        importances = {} if study is None else _importances(study)
        content = base.model_dump(mode="json")
        counts: dict[str, int] = {state: sum(trial.state == state for trial in trials) for state in STATES}
        return cls(
            task=run.task,
            variant=run.variant,
            name="" if study is None else study.study_name,
            recipe=recipe.model_copy(update={"storage": None}),
            space=space,
            base=content,
            tuned=with_parameters(base, parameters).model_dump(mode="json"),
            counts=counts,
            best_trial=None if best is None else best.number,
            best_value=None if best is None else best.value,
            best_parameters=parameters,
            importances=importances,
            patches_version=run.store.data_version,
            splits_version=run.splits.data_version,
            is_synthetic=run.store.is_synthetic,
            tables=_tables(order, recipe.metric, space, content, importances) if trials else {},
            figures={} if study is None else _figures(study, recipe.metric, list(importances) or list(space.root)),
            notes=_notes(trials, counts, recipe, best),
        )

    @property
    def counted(self) -> int:
        """Number of trials that count."""
        return sum(count for state, count in self.counts.items() if state != "interrupted")

    def best_recipe(self, base: Recipe) -> Recipe:
        """A recipe, perhaps of another variant, with the best trial's values; as it is if there is no best trial.

        Raises:
            InvalidRecipe: If it lacks a searched field or refuses a value.
        """
        return with_parameters(base, self.best_parameters)

    @property
    def data_version(self) -> str:
        """Changes when the values that it recommends do: more trials alone make nothing downstream stale."""
        text = json.dumps(dict(self.best_parameters), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def extra_files(self) -> Mapping[str, Mapping[str, Any]]:
        """``best_recipe.json``."""
        parameters, value = dict(self.best_parameters), {self.recipe.metric: self.best_value}
        return {"best_recipe.json": {"trial": self.best_trial, **value, "parameters": parameters, "recipe": self.tuned}}

    def page(self) -> Page:
        """The best values, the trials, figures and how was searched."""
        tiles = [Tile("trials", str(self.counted), f"{self.recipe.workers} at a time")]
        if self.best_trial is not None:
            best = Tile(readable(self.recipe.metric), format_number(self.best_value), f"trial {self.best_trial}")
            values = {path: format_number(self.best_parameters[path]) for path in list(self.importances)[:3]}
            names = {path: path.rpartition(".")[2].replace("_", " ") for path in values}
            tiles = [best, *tiles, *(Tile(names[path], value, "best value") for path, value in values.items())]
        searched = {name.replace("_", " "): str(v) for name, v in self.recipe.model_dump().items() if v is not None}
        return Page(
            title=f"{self.task} / hyperparameter study",
            subtitle=f"Search for {self.variant}, {self.made_at}",
            is_synthetic=self.is_synthetic,
            tiles=tiles,
            tables=self.tables,
            sections={
                "Search": searched,
                "Versions": {
                    "study": self.name,
                    "search space": self.space.digest,
                    "patches": self.patches_version,
                    "splits": self.splits_version,
                },
            },
            commands=[
                *job_commands(self.task),
                "pip install optuna-dashboard",
                "optuna-dashboard <its storage: the URL that the asset's metadata name>",
            ],
        )


def finished_trials(study: "Study") -> list[Trial]:
    """All finished trials of a study, by number."""
    trials = study.get_trials(deepcopy=False)
    repeated = {number for trial in trials for number in retried(trial)}
    best = max if study.direction.name == "MAXIMIZE" else min
    found = []
    for trial in (one for one in trials if one.state.is_finished() and one.user_attrs.get(REASON, "") is not None):
        state: TrialState = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")  # type: ignore[assignment]
        values = dict(sorted(trial.intermediate_values.items()))
        value = trial.value if state == "complete" else best(values.values(), default=None)
        found.append(
            Trial(
                number=trial.number,
                state="interrupted" if trial.number in repeated else state,
                value=None if value is None or not math.isfinite(value) else float(value),
                parameters=dict(trial.params),
                epochs=values,
                seconds=math.nan if trial.duration is None else trial.duration.total_seconds(),
                reason=trial.user_attrs.get(REASON, "its process ended" if trial.state.name == "FAIL" else ""),
                retry_of=next(reversed(retried(trial)), None),
            )
        )
    return found


def retried(trial: Any) -> Sequence[int]:
    """Numbers of the interrupted trials that one repeats, the first one first."""
    return trial.system_attrs.get("retry_history", ())  # type: ignore[no-any-return]


def _tables(
    trials: Sequence[Trial], metric: str, space: SearchSpace, base: Mapping[str, Any], importances: Mapping[str, float]
) -> "dict[str, pd.DataFrame]":
    """``trials``, best first, and, if that is complete, ``best_values``: each field before and after.

    Parameters are called by the last part of their path, or the whole path where two would be called alike.
    """
    import pandas as pd

    last = [path.rpartition(".")[2] for path in space.root]
    short = {path: name if last.count(name) == 1 else path for path, name in zip(space.root, last, strict=True)}
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            metric: trial.value,
            "epochs": len(trial.epochs),
            "seconds": trial.seconds,
            **{short[path]: v if isinstance(v, float) else str(v) for path, v in trial.parameters.items()},
            "remark": trial.reason if trial.retry_of is None else f"repeats {trial.retry_of} {trial.reason}",
        }
        for trial in trials
    ]
    tables = {"trials": pd.DataFrame(rows)}
    if trials[0].state == "complete":
        best = [
            {
                "field": path,
                "recipe": str(reduce(getitem, path.split("."), base)),
                "best": format_number(value) if isinstance(value, float) else str(value),
                "importance": importances.get(path),
            }
            for path, value in trials[0].parameters.items()
        ]
        table = pd.DataFrame(best).astype({"importance": float})
        tables["best_values"] = table.sort_values("importance", ascending=False, ignore_index=True)
    return tables


def _notes(trials: Sequence[Trial], counts: Mapping[str, int], recipe: StudyRecipe, best: Trial | None) -> list[str]:
    """What a reader has to know about the trials."""
    described = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    minutes = sum(trial.seconds for trial in trials if trial.seconds == trial.seconds) / 60
    notes = [
        f"{len(trials)} trials ({described}); together they trained for {minutes:.1f} minutes.",
        f"A trial is worth its best {recipe.metric}; the test split took no part.",
    ]
    if not trials:
        notes = ["No trial was run: the recipe's own values are used."]
    elif recipe.include_defaults and best is not None and trials[0].number == 0 and trials[0].value is not None:
        own, reached = format_number(trials[0].value), format_number(best.value)
        notes.append(f"Trial 0 had the recipe's own values: {own}; the best one reached {reached}.")
    if (missing := recipe.trials - len(trials) + counts["interrupted"]) > 0:
        notes.append(
            f"{missing} of {recipe.trials} trials are missing, since study_minutes ({recipe.study_minutes}) were over; "
            "run the study again to go on."
        )
    return notes


def _importances(study: "Study") -> dict[str, float]:
    import optuna

    if len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))) < _FEWEST_FOR_IMPORTANCES:
        return {}
    try:
        found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}  # all values are equal, or too few trials differ
    return {name: float(share) for name, share in found.items() if share == share}


def _figures(study: "Study", metric: str, names: Sequence[str]) -> dict[str, bytes]:
    """What the trials allow: most of Optuna's plots need two complete ones."""
    from optuna.visualization import matplotlib as plots

    trials = study.get_trials(deepcopy=False)
    complete = sum(trial.state.name == "COMPLETE" for trial in trials)
    wanted: dict[str, tuple[Callable[[], Any], tuple[float, float]]] = {}
    if complete >= _FEWEST:
        history = partial(plots.plot_optimization_history, study, target_name=metric)
        wanted["optimization_history"] = (history, (8.6, 4.3))
        if complete >= _FEWEST_FOR_IMPORTANCES:
            importances = partial(plots.plot_param_importances, study)
            wanted["parameter_importances"] = (importances, (8.6, 1.3 + 0.4 * len(names)))
        shown = list(names[:_SLICE_PARAMETERS])
        slices = partial(plots.plot_slice, study, params=shown, target_name=metric)
        wanted["slices"] = (slices, (2.9 * len(shown) + 1.5, 3.8))
    if any(trial.intermediate_values for trial in trials):
        wanted["intermediate_values"] = (partial(plots.plot_intermediate_values, study), (8.6, 4.6))
    wanted["timeline"] = (partial(plots.plot_timeline, study), (9.5, min(0.22 * len(trials) + 1.8, 12.0)))
    drawn = {name: _drawn(plot, size) for name, (plot, size) in wanted.items()}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def _drawn(plot: Callable[[], Any], size: tuple[float, float]) -> bytes | None:
    """One of Optuna's plots in the project's look; None if its trials do not suffice for it."""
    import matplotlib.pyplot as plt
    import numpy as np

    with figure_style(), warnings.catch_warnings(action="ignore"):  # Optuna calls its plots experimental
        try:
            axes = np.atleast_1d(np.asarray(plot(), dtype=object)).ravel()
        except (ValueError, RuntimeError, ZeroDivisionError):
            return None
        figure: Figure = axes[0].figure
        figure.set_size_inches(*size)
        for each in axes:
            each.set_xlabel(each.get_xlabel().rpartition(".")[2])  # full paths run into each other
            if (legend := each.get_legend()) is not None and len(legend.get_texts()) > _MOST_LEGEND_ENTRIES:
                legend.remove()  # one entry a trial
        try:
            return png(figure)
        finally:
            plt.close(figure)
