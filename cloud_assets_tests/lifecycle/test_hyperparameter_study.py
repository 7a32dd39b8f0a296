"""A study as an asset: comes back from disk as it was, recommends what won, draws what the trials allow."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from cloud_assets.errors import InvalidRecipe, InvalidReport
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.search_space import Choice, FloatRange, SearchSpace, StudyRecipe
from cloud_assets.lifecycle.hyperparameter_study import HyperparameterStudy

SPACE = SearchSpace(
    {
        "learning_rate": FloatRange(low=1e-5, high=1e-1, log=True),
        "optimiser": Choice(options=("adam", "sgd")),
        "gradient_clip": Choice(options=(None, 1.0)),
    }
)
DISTRIBUTIONS = {
    "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
    "optimiser": optuna.distributions.CategoricalDistribution(("adam", "sgd")),
    "gradient_clip": optuna.distributions.CategoricalDistribution((None, 1.0)),
}
RUN = SimpleNamespace(
    task="clouds",
    variant="small",
    store=SimpleNamespace(data_version="p", is_synthetic=True),
    splits=SimpleNamespace(data_version="s"),
)


def trial(state: str, value: float | None, rate: float, reason: str = "", repeats: Sequence[int] = ()) -> Any:
    return optuna.create_trial(
        state=optuna.trial.TrialState[state],
        value=value if state == "COMPLETE" else None,
        params={"learning_rate": rate, "optimiser": "adam" if rate > 5e-3 else "sgd", "gradient_clip": None},
        distributions=DISTRIBUTIONS,  # type: ignore[arg-type]
        user_attrs={"reason": reason} if reason else {},
        system_attrs={"retry_history": list(repeats)} if repeats else {},
        intermediate_values={} if value is None else {0: value - 0.1, 1: value},
    )


TRIALS = (
    trial("COMPLETE", 0.5, 1e-3),
    trial("COMPLETE", 0.7, 1e-2),
    trial("PRUNED", 0.9, 1e-4),
    trial("FAIL", None, 1e-1, reason="diverged"),
    trial("FAIL", 0.1, 2e-3),
    trial("COMPLETE", 0.6, 2e-3, repeats=[4]),
)


def report(trials: Sequence[Any] = TRIALS, **settings: Any) -> HyperparameterStudy:
    recipe = StudyRecipe(**{"trials": len(trials), "metric": "val_accuracy", "mode": "max", **settings})
    study = optuna.create_study(study_name="clouds-1", direction=f"{recipe.mode}imize")
    study.add_trials(trials)
    return HyperparameterStudy.of(study if trials else None, recipe, SPACE, Optimisation(), RUN)  # type: ignore[arg-type]


def test_study_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    study = report()
    study.save(tmp_path / "study")
    again = HyperparameterStudy.open(tmp_path / "study")
    again.save(tmp_path / "again")
    for file in ("study.json", "best_recipe.json", "report.html"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "study" / file).read_bytes()
    assert again.figures == study.figures
    assert again.data_version == study.data_version
    assert again.counts == {"complete": 3, "pruned": 1, "failed": 1, "interrupted": 1}
    assert again.counted == 5
    assert again.tables["trials"]["trial"].tolist() == [1, 5, 0, 2, 3, 4]
    assert set(study.figures) >= {"optimization_history", "slices", "timeline", "intermediate_values"}
    for name in study.figures:
        assert (tmp_path / "study" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_best_is_the_best_complete_trial_and_goes_into_any_recipe(tmp_path: Path) -> None:
    study = report()
    tuned = study.best_recipe(Optimisation(batch_size=3))
    assert (tuned.learning_rate, tuned.optimiser, tuned.gradient_clip, tuned.batch_size) == (1e-2, "adam", None, 3)
    study.save(tmp_path / "study")
    saved = json.loads((tmp_path / "study" / "best_recipe.json").read_text())
    assert (saved["trial"], saved["val_accuracy"]) == (1, 0.7)
    assert saved["recipe"] == study.best_recipe(Optimisation()).model_dump(mode="json")
    assert report(mode="min").best_trial == 0
    with pytest.raises(InvalidRecipe, match="no field 'learning_rate'"):
        study.best_recipe(StudyRecipe())


def test_version_follows_the_recommended_values_only() -> None:
    better = report((*TRIALS, trial("COMPLETE", 0.8, 5e-2)))
    assert report(TRIALS[:2]).data_version == report().data_version != better.data_version


@pytest.mark.parametrize("trials", [(), TRIALS[:1], TRIALS[2:4], (TRIALS[0], TRIALS[0])])
def test_report_of_a_poor_study_is_written_all_the_same(trials: tuple[Any, ...], tmp_path: Path) -> None:
    study = report(trials)
    study.save(tmp_path / "study")
    page = (tmp_path / "study" / "report.html").read_text()
    assert ("No trial was run" in page) == (not trials)
    assert "Synthetic data" in page
    opened = HyperparameterStudy.open(tmp_path / "study")
    assert opened.best_parameters == study.best_parameters
    if study.best_trial is None:
        assert opened.best_recipe(Optimisation()) == Optimisation()


def test_report_tells_what_happened_but_not_the_storage(tmp_path: Path) -> None:
    report(storage="postgresql://me:secret@host/db").save(tmp_path / "study")
    page = (tmp_path / "study" / "report.html").read_text()
    for text in ("diverged", "repeats 4", "1 interrupted", "learning_rate", "0.7"):
        assert text in page
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
    report(TRIALS[:1]).save(tmp_path / "study")
    damage(tmp_path / "study")
    with pytest.raises(InvalidReport, match="finished trials are kept"):
        HyperparameterStudy.open(tmp_path / "study")
