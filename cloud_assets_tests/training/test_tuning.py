"""Studies: nothing lost, nothing twice, whatever dies."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.errors import AlreadyRunning, InvalidRecipe, SourceUnreachable, TrainingFailed
from cloud_assets.learning.search_space import Choice, FloatRange, SearchSpace
from cloud_assets.learning.study_recipe import StudyRecipe, Trial
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle import tuning
from cloud_assets.lifecycle.study_storage import journal_file
from cloud_assets.lifecycle.tuning import run_study
from cloud_assets.patches.from_arrays import store_arrays
from cloud_assets.patches.splits import GroupedSplit

ROOT = Path(__file__).resolve().parents[2]
SPACE = SearchSpace(
    {"optimisation.rate": FloatRange(low=0.01, high=1.0, log=True), "shape": Choice(options=("round", "square"))}
)


@pytest.fixture
def bowl(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))  # worker processes import the recipe by its name
    from cloud_assets_tests.training.studied_recipe import Bowl

    return Bowl


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patches")
    images = np.full((6, 1, 8, 8), 100, np.uint16)
    masks = np.zeros((6, 8, 8), np.uint8)
    masks[:, :4] = 1
    store_arrays(folder / "store", images, masks, bands=["red"], instrument="sentinel2_l1c")
    return folder


def training_run(data: Path, workspace: Path) -> TrainingRun:
    from cloud_assets.patches.store import PatchStore

    store = PatchStore.open(data / "store")
    splits = GroupedSplit(stratify=None).split(store)
    return TrainingRun("bowls", "bowl", store, splits, workspace, progress=False)


def test_search_finds_the_bottom_and_starts_with_the_recipe_itself(bowl: Any, data: Path, tmp_path: Path) -> None:
    base = bowl(log=str(tmp_path / "log"))
    outcome = run_study(StudyRecipe(trials=14, workers=2), SPACE, base, training_run(data, tmp_path / "work"))
    assert [trial.number for trial in outcome.trials] == list(range(14))
    assert dict(outcome.trials[0].parameters) == {"optimisation.rate": 0.1, "shape": "round"}
    assert outcome.best is not None
    assert outcome.best.value is not None
    assert outcome.best.value <= (0.1 - 0.3) ** 2 + 1 / 3
    best = outcome.best_recipe(bowl(seconds=7.0))
    assert best.optimisation.rate == outcome.best.parameters["optimisation.rate"]
    assert best.seconds == 7.0
    # Complete trials are worth their best epoch, which is the last one of a bowl.
    for trial in outcome.trials:
        if trial.state == "complete":
            assert trial.value == trial.epochs[2] == min(trial.epochs.values())
        else:
            assert trial.state == "pruned"
            assert len(trial.epochs) < 3
    processes = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    assert not (tmp_path / "work" / "trials").exists()


def test_going_on_adds_trials_and_repeats_none(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path / "work")
    told: list[Trial] = []
    first = run_study(StudyRecipe(trials=3, sampler="random"), SPACE, bowl(), run)
    second = run_study(StudyRecipe(trials=6, sampler="random"), SPACE, bowl(), run, told.append)
    assert second.trials[:3] == first.trials
    assert len(second.trials) == 6
    assert len({tuple(trial.parameters.values()) for trial in second.trials}) == 6
    assert [trial.number for trial in told] == list(range(6))
    again = run_study(StudyRecipe(trials=6, sampler="random"), SPACE, bowl(), run)
    assert again.trials == second.trials


def test_no_trials_means_the_recipe_itself_and_says_so(bowl: Any, data: Path, tmp_path: Path) -> None:
    outcome = run_study(StudyRecipe(trials=0), SPACE, bowl(), training_run(data, tmp_path))
    assert outcome.best_recipe(bowl(seconds=1)) == bowl(seconds=1)
    assert "trials: 0" in outcome.notes[0]
    assert not journal_file(tmp_path).exists()


def test_killed_study_goes_on_without_loss_or_repetition(bowl: Any, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            from cloud_assets_tests.training.studied_recipe import Bowl
            from cloud_assets_tests.training.test_tuning import SPACE, StudyRecipe, run_study, training_run

            if __name__ == "__main__":
                run = training_run(Path({str(data)!r}), Path({str(tmp_path / "work")!r}))
                base = Bowl(seconds=0.15, log={str(tmp_path / "log")!r})
                run_study(StudyRecipe(trials=12, workers=2, pruner="none"), SPACE, base, run)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment)
    log = tmp_path / "log"
    deadline = time.monotonic() + 90
    while not (log.exists() and len(log.read_text().splitlines()) >= 6):
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    workers = {int(line.split()[0]) for line in log.read_text().splitlines()}
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its study"
        time.sleep(0.02)
    begun = len(log.read_text().splitlines())
    with journal_file(tmp_path / "work").open("a", encoding="utf-8") as journal:
        journal.write('{"op_code": 4, "half a li')

    base = bowl(seconds=0.15, log=str(log))
    run = training_run(data, tmp_path / "work")
    outcome = run_study(StudyRecipe(trials=12, workers=2, pruner="none"), SPACE, base, run)

    interrupted = [trial for trial in outcome.trials if trial.state == "interrupted"]
    assert 1 <= len(interrupted) <= 2
    assert len(outcome.counted) == 12
    assert {trial.state for trial in outcome.counted} == {"complete"}
    retried = {trial.retry_of: trial for trial in outcome.trials if trial.retry_of is not None}
    assert set(retried) == {trial.number for trial in interrupted}
    for trial in interrupted:
        assert retried[trial.number].parameters == trial.parameters
        assert "killed" in trial.reason
    # Trained exactly: every trial once, the interrupted ones once more, in their old workspace.
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == 12 + len(interrupted)
    twice = [rate for rate, count in Counter(line[2] for line in lines).items() if count == 2]
    assert sorted(twice) == sorted(repr(trial.parameters["optimisation.rate"]) for trial in interrupted)
    assert [line[3] for line in lines[begun:]].count("False") == len(interrupted)


def test_other_search_space_under_the_same_name_is_refused(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path / "work")
    run_study(StudyRecipe(trials=1, name="bowls"), SPACE, bowl(), run)
    other = SearchSpace({"optimisation.rate": FloatRange(low=0.01, high=0.5)})
    with pytest.raises(InvalidRecipe, match=r"search space.*another name"):
        run_study(StudyRecipe(trials=2, name="bowls"), other, bowl(), run)
    assert len(run_study(StudyRecipe(trials=1, name="bowls"), SPACE, bowl(), run).trials) == 1
    with pytest.raises(InvalidRecipe, match="recipe"):
        run_study(StudyRecipe(trials=2, name="bowls"), SPACE, bowl(seconds=0.1), run)
    # What is varied anyway does not make it another study; without a name of its own, another recipe does.
    elsewhere = bowl(shape="square")
    assert len(run_study(StudyRecipe(trials=2, name="bowls"), SPACE, elsewhere, run).trials) == 2
    names = {run_study(StudyRecipe(trials=1), SPACE, base, run).name for base in (bowl(), bowl(seconds=0.1), elsewhere)}
    assert len(names) == 2


def test_failing_trial_is_recorded_and_the_study_goes_on(bowl: Any, data: Path, tmp_path: Path) -> None:
    space = SearchSpace({"fault": Choice(options=("none", "raise"))})
    run = training_run(data, tmp_path / "work")
    outcome = run_study(StudyRecipe(trials=6, sampler="random", pruner="none"), space, bowl(), run)
    failed = [trial for trial in outcome.trials if trial.state == "failed"]
    assert 0 < len(failed) < 6
    assert all(trial.parameters["fault"] == "raise" for trial in failed)
    assert all("the bowl is broken" in trial.reason for trial in failed)
    assert outcome.best is not None
    assert outcome.best.parameters["fault"] == "none"


def test_study_whose_trials_all_fail_stops(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path / "work")
    with pytest.raises(TrainingFailed, match="the bowl is broken"):
        run_study(StudyRecipe(trials=50), SPACE, bowl(fault="raise"), run)
    with pytest.raises(TrainingFailed):
        run_study(StudyRecipe(trials=50), SPACE, bowl(fault="raise"), run)


def test_trial_whose_process_dies_is_repeated(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path / "work")
    outcome = run_study(StudyRecipe(trials=2, pruner="none"), SPACE, bowl(fault="die_once"), run)
    assert outcome.state_counts() == {"complete": 2, "pruned": 0, "failed": 0, "interrupted": 2}


def test_trial_that_always_kills_its_process_is_given_up(bowl: Any, data: Path, tmp_path: Path) -> None:
    space = SearchSpace({"fault": Choice(options=("none", "die"))})
    run = training_run(data, tmp_path / "work")
    outcome = run_study(StudyRecipe(trials=3, retries=1), space, bowl(fault="die"), run)
    failed = [trial for trial in outcome.trials if trial.state == "failed"]
    assert failed
    assert "2 times" in failed[0].reason
    assert len(outcome.counted) == 3


def test_hanging_trial_is_killed_and_slow_one_cut_short(
    bowl: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_START_SECONDS", 2.0)
    space = SearchSpace({"fault": Choice(options=("none", "hang"))})
    limited = StudyRecipe(trials=3, trial_minutes=0.005, pruner="none", sampler="random", seed=1)
    outcome = run_study(limited, space, bowl(seconds=0.4), training_run(data, tmp_path / "work"))
    by_fault: dict[object, set[str]] = {"none": set(), "hang": set()}
    for trial in outcome.trials:
        by_fault[trial.parameters["fault"]].add(trial.state)
        assert trial.reason.startswith("time limit")
        assert len(trial.epochs) == (1 if trial.state == "complete" else 0)
    assert by_fault == {"none": {"complete"}, "hang": {"failed"}}


def test_metric_that_no_epoch_has_is_named(bowl: Any, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"'accuracy'.*val_loss"):
        run_study(StudyRecipe(trials=1, metric="accuracy"), SPACE, bowl(), training_run(data, tmp_path))


def test_second_process_is_kept_out(bowl: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr("cloud_assets.lifecycle.study_storage._LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / "study.lock"), pytest.raises(AlreadyRunning, match="Another process"):
        run_study(StudyRecipe(trials=1), SPACE, bowl(), training_run(data, tmp_path))


def test_any_storage_url_serves(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path / "work")
    recipe = StudyRecipe(trials=2, storage=f"sqlite:///{tmp_path}/study.db")
    first = run_study(recipe, SPACE, bowl(), run)
    second = run_study(recipe.model_copy(update={"trials": 3}), SPACE, bowl(), run)
    assert second.trials[:2] == first.trials
    assert not journal_file(tmp_path / "work").exists()


def test_unreachable_storage_keeps_the_password_to_itself(bowl: Any, data: Path, tmp_path: Path) -> None:
    recipe = StudyRecipe(trials=1, storage=f"sqlite://user:secret@/{tmp_path}/none/study.db")
    with pytest.raises(SourceUnreachable, match="cannot be opened") as caught:
        run_study(recipe, SPACE, bowl(), training_run(data, tmp_path / "work"))
    assert "secret" not in str(caught.value)
