"""Pictures of a hyper-parameter study, by Optuna's own plots."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_assets.lifecycle.study_ledger import distribution
from cloud_assets.reports.style import figure_style, png

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

    from cloud_assets.learning.study_recipe import StudyOutcome

CAPTIONS: Mapping[str, str] = {
    "optimization_history": "Value of each complete trial, and the best one so far.",
    "parameter_importances": "How much each parameter decides whether a trial is among the best (PED-ANOVA, Watanabe "
    "et al. 2023, arXiv:2304.10255); with few trials no more than a hint.",
    "slices": "Value of each trial against the most important parameters; darker trials are later.",
    "contours": "Value over pairs of the most important parameters.",
    "intermediate_values": "The metric of each trial by epoch; pruned trials end early.",
    "timeline": "When each trial ran, by its end: parallel ones lie above each other.",
}
_CONTOUR_PARAMETERS = 3
_SLICE_PARAMETERS = 6
_FEWEST = 2
_FEWEST_FOR_IMPORTANCES = 4


def study_figures(outcome: StudyOutcome) -> dict[str, bytes]:
    """Draws what the trials allow: two complete ones for most figures, two varied parameters for contours.

    Args:
        outcome: The study.

    Returns:
        PNG images by name.
    """
    if not outcome.trials:
        return {}
    study = to_optuna(outcome)
    from optuna.visualization import matplotlib as plots

    metric = outcome.recipe.metric
    complete = sum(trial.state == "complete" for trial in outcome.trials)
    height = min(0.22 * len(outcome.trials) + 1.8, 12.0)
    figures = {"timeline": _drawn(partial(plots.plot_timeline, study), (9.5, height))}
    if any(trial.epochs for trial in outcome.trials):
        epochs = partial(plots.plot_intermediate_values, study)
        figures["intermediate_values"] = _drawn(epochs, (8.6, 4.6), legend=False)
    if complete >= _FEWEST:
        importance = _importances(study)
        names = list(importance) or list(outcome.space.root)
        history = partial(plots.plot_optimization_history, study, target_name=metric)
        figures["optimization_history"] = _drawn(history, (8.6, 4.3))
        if importance:
            size = (8.6, 1.3 + 0.4 * len(names))
            figures["parameter_importances"] = _drawn(partial(plots.plot_param_importances, study), size)
        shown = names[:_SLICE_PARAMETERS]
        slices = partial(plots.plot_slice, study, params=shown, target_name=metric)
        figures["slices"] = _drawn(slices, (2.9 * len(shown) + 1.5, 3.8), short=True)
        if len(importance) >= _FEWEST:
            chosen = names[:_CONTOUR_PARAMETERS]
            contours = partial(plots.plot_contour, study, params=chosen, target_name=metric)
            figures["contours"] = _drawn(contours, (10.4, 8.4), short=True)
    order = [name for name in CAPTIONS if name in figures]
    return {name: figures[name] for name in order}


def importances(outcome: StudyOutcome) -> dict[str, float]:
    """How much each parameter decides, adding up to 1, largest first; empty if there is no telling."""
    return _importances(to_optuna(outcome))


def to_optuna(outcome: StudyOutcome) -> optuna.Study:
    """The study as Optuna's own object, in memory.

    Args:
        outcome: The study; interrupted trials count as failed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    states = optuna.trial.TrialState
    known = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL, "interrupted": states.FAIL}
    study = optuna.create_study(
        study_name=outcome.name, direction="maximize" if outcome.recipe.mode == "max" else "minimize"
    )
    distributions = {path: distribution(dimension) for path, dimension in outcome.space.root.items()}
    for trial in outcome.trials:
        state = known[trial.state]
        params = dict(trial.parameters)
        record = optuna.trial.FrozenTrial(
            number=trial.number,
            state=state,
            value=trial.value if state == states.COMPLETE else None,
            datetime_start=trial.started,
            datetime_complete=trial.finished,
            params=params,
            distributions={path: distributions[path] for path in params},
            user_attrs={},
            system_attrs={},
            intermediate_values=dict(trial.epochs),
            trial_id=trial.number,
        )
        study.add_trial(record)
    return study


def _importances(study: optuna.Study) -> dict[str, float]:
    import optuna

    states = (optuna.trial.TrialState.COMPLETE,)
    if len(study.get_trials(deepcopy=False, states=states)) < _FEWEST_FOR_IMPORTANCES:
        return {}
    try:
        found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}  # all values are equal, or too few trials differ
    return {name: float(share) for name, share in found.items() if share == share}


def _drawn(plot: Callable[[], Any], size: tuple[float, float], *, short: bool = False, legend: bool = True) -> bytes:
    """One of Optuna's plots in the project's look."""
    import matplotlib.pyplot as plt
    import numpy as np

    with figure_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its plots experimental
        axes = np.atleast_1d(np.asarray(plot(), dtype=object))
        figure: Figure = axes.ravel()[0].figure
        figure.set_size_inches(*size)
        for each in axes.ravel():
            if short:
                # Full paths of nested fields run into each other.
                each.set_xlabel(each.get_xlabel().rpartition(".")[2])
                each.set_ylabel(each.get_ylabel().rpartition(".")[2])
            if not legend and each.get_legend() is not None:
                each.get_legend().remove()
        try:
            return png(figure)
        finally:
            plt.close(figure)
