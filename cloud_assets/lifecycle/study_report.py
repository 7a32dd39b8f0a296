"""The report of a hyper-parameter study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud_assets.lifecycle.study_figures import CAPTIONS
from cloud_assets.reports.formatting import format_number, readable
from cloud_assets.reports.page import (
    SYNTHETIC_BANNER,
    Page,
    Tile,
    figure_views,
    table_views,
)

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy


def study_page(study: HyperparameterStudy) -> Page:
    """Lays out a study."""
    outcome = study.outcome
    tables = {"best_values": best_values_table(study)} if outcome.best is not None else {}
    if outcome.trials:
        tables["trials"] = study.trials_table()
    return Page(
        title=f"{outcome.task} / hyperparameter study",
        subtitle=f"Search for {outcome.variant}, {study.created}",
        banner=SYNTHETIC_BANNER if outcome.is_synthetic else "",
        tiles=_tiles(study),
        notes=(*outcome.notes, *study_notes(study)),
        figures=figure_views(study.figures, CAPTIONS),
        tables=table_views(tables, {"trials": "Best first; interrupted trials were run again under another number."}),
        facts={
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
            f"dagster job execute -m cloud_assets.definitions -j {outcome.task}",
            "pip install optuna-dashboard",
            "optuna-dashboard <its storage: the URL, or the journal file that the asset's metadata name>",
        ],
    )


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
