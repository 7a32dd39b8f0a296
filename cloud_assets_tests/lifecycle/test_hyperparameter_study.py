"""A study as an asset: comes back from disk as it was, recommends what won, draws what the trials allow."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_assets.errors import InvalidRecipe, InvalidReport
from cloud_assets.learning.optimisation import Optimisation
from cloud_assets.learning.search_space import Choice, FloatRange, SearchSpace
from cloud_assets.learning.study_recipe import StudyOutcome, StudyRecipe, Trial, TrialState
from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy

SPACE = SearchSpace(
    {
        "learning_rate": FloatRange(low=1e-5, high=1e-1, log=True),
        "optimiser": Choice(options=("adam", "sgd")),
        "gradient_clip": Choice(options=(None, 1.0)),
    }
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def trial(number: int, state: TrialState, value: float | None, rate: float, **changes: object) -> Trial:
    made = Trial(
        number=number,
        state=state,
        value=value,
        parameters={"learning_rate": rate, "optimiser": "adam" if number % 2 else "sgd", "gradient_clip": None},
        epochs={} if value is None else {0: value - 0.1, 1: value},
        started=START + timedelta(seconds=number),
        finished=START + timedelta(seconds=number + 2),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def outcome(trials: tuple[Trial, ...], mode: str = "max") -> StudyOutcome:
    recipe = StudyRecipe(trials=len(trials), metric="val_accuracy", mode=mode)  # type: ignore[arg-type]
    return StudyOutcome(
        "clouds", "small", "clouds-small-1", recipe, SPACE, trials, "p", "s", is_synthetic=True, seconds=9.5
    )


TRIALS = (
    trial(0, "complete", 0.5, 1e-3),
    trial(1, "complete", 0.7, 1e-2),
    trial(2, "pruned", 0.9, 1e-4),
    trial(3, "failed", None, 1e-1, reason="diverged"),
    trial(4, "interrupted", 0.1, 2e-3, reason="killed"),
    trial(5, "complete", 0.6, 2e-3, retry_of=4),
)


def test_study_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    study = HyperparameterStudy.of(outcome(TRIALS), Optimisation())
    study.save(tmp_path / "study")
    again = HyperparameterStudy.open(tmp_path / "study")
    again.save(tmp_path / "again")
    for file in ("study.json", "best_recipe.json", "report.html"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "study" / file).read_bytes()
    assert tuple(again.outcome.trials) == TRIALS
    assert again.figures == study.figures
    assert again.data_version == study.data_version
    assert set(study.figures) >= {"optimization_history", "slices", "timeline", "intermediate_values"}
    for name in study.figures:
        assert (tmp_path / "study" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_best_is_the_best_complete_trial_and_goes_into_any_recipe(tmp_path: Path) -> None:
    study = HyperparameterStudy.of(outcome(TRIALS), Optimisation())
    tuned = study.best_recipe(Optimisation(batch_size=3))
    assert (tuned.learning_rate, tuned.optimiser, tuned.gradient_clip, tuned.batch_size) == (1e-2, "adam", None, 3)
    study.save(tmp_path / "study")
    saved = json.loads((tmp_path / "study" / "best_recipe.json").read_text())
    assert (saved["trial"], saved["val_accuracy"]) == (1, 0.7)
    assert saved["recipe"] == study.best_recipe(Optimisation()).model_dump(mode="json")
    least = HyperparameterStudy.of(outcome(TRIALS, mode="min"), Optimisation())
    assert least.outcome.best is not None
    assert least.outcome.best.number == 0
    with pytest.raises(InvalidRecipe, match="no field 'learning_rate'"):
        study.best_recipe(StudyRecipe())


def test_version_follows_the_recommended_values_only() -> None:
    study = HyperparameterStudy.of(outcome(TRIALS[:2]), Optimisation())
    more = HyperparameterStudy.of(outcome(TRIALS), Optimisation())
    better = HyperparameterStudy.of(outcome((*TRIALS, trial(6, "complete", 0.8, 5e-2))), Optimisation())
    assert study.data_version == more.data_version != better.data_version


@pytest.mark.parametrize("trials", [(), TRIALS[:1], TRIALS[2:4], (TRIALS[0], replace(TRIALS[0], number=1))])
def test_report_of_a_poor_study_is_written_all_the_same(trials: tuple[Trial, ...], tmp_path: Path) -> None:
    study = HyperparameterStudy.of(replace(outcome(trials), notes=("No trial was run.",)), Optimisation())
    study.save(tmp_path / "study")
    report = (tmp_path / "study" / "report.html").read_text()
    assert "No trial was run." in report
    assert "Synthetic data" in report
    assert tuple(HyperparameterStudy.open(tmp_path / "study").outcome.trials) == trials
    if study.outcome.best is None:
        assert study.best_recipe(Optimisation()) == Optimisation()


def test_report_tells_what_happened_but_not_the_storage(tmp_path: Path) -> None:
    told = outcome(TRIALS)
    secret = StudyRecipe(**{**told.recipe.model_dump(), "storage": "postgresql://me:secret@host/db"})
    HyperparameterStudy.of(replace(told, recipe=secret), Optimisation()).save(tmp_path / "study")
    report = (tmp_path / "study" / "report.html").read_text()
    for text in ("diverged", "repeats 4", "5 trials count", "learning_rate", "0.7"):
        assert text in report
    for file in ("report.html", "study.json"):
        assert "secret" not in (tmp_path / "study" / file).read_text()


def _remove(folder: Path) -> None:
    (folder / "study.json").unlink()


def _cut(folder: Path) -> None:
    (folder / "study.json").write_text("{")


def _of_tomorrow(folder: Path) -> None:
    content = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**content, "schema_version": 99}))


@pytest.mark.parametrize("damage", [_remove, _cut, _of_tomorrow])
def test_damaged_study_is_refused(damage: Callable[[Path], None], tmp_path: Path) -> None:
    HyperparameterStudy.of(outcome(TRIALS[:1]), Optimisation()).save(tmp_path / "study")
    damage(tmp_path / "study")
    with pytest.raises(InvalidReport, match="finished trials are kept"):
        HyperparameterStudy.open(tmp_path / "study")
