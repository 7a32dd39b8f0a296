"""Studies: nothing lost, nothing twice, whatever dies."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from cloud_assets.errors import AlreadyRunning, InvalidRecipe, SourceUnreachable, TrainingFailed
from cloud_assets.learning.search_space import Choice, FloatRange, SearchSpace, StudyRecipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle import study
from cloud_assets.lifecycle.hyperparameter_study import Trial, finished_trials
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets_tests.patch_arrays import store_arrays

ROOT = Path(__file__).resolve().parents[2]
SPACE = SearchSpace(
    {"optimisation.rate": FloatRange(low=0.01, high=1.0, log=True), "shape": Choice(options=("round", "square"))}
)


@pytest.fixture
def bowl(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))  # worker processes import the recipe by its name
    from cloud_assets_tests.lifecycle.studied_recipe import Bowl

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


def run_study(recipe: StudyRecipe, space: SearchSpace, base: Any, run: TrainingRun, **listener: Any) -> list[Trial]:
    return finished_trials(study.run_study(recipe, space, base, run, **listener))


def states(trials: list[Trial]) -> Counter[str]:
    return Counter(trial.state for trial in trials)


def test_search_starts_with_the_recipe_itself_and_prunes_what_is_worse(bowl: Any, data: Path, tmp_path: Path) -> None:
    base = bowl(log=str(tmp_path / "log"))
    trials = run_study(StudyRecipe(trials=14, workers=2), SPACE, base, training_run(data, tmp_path / "work"))
    assert [trial.number for trial in trials] == list(range(14))
    assert dict(trials[0].parameters) == {"optimisation.rate": 0.1, "shape": "round"}
    assert len({tuple(trial.parameters.values()) for trial in trials}) == 14
    # Complete trials are worth their best epoch, which is the last one of a bowl.
    for trial in trials:
        if trial.state == "complete":
            assert trial.value == trial.epochs[2] == min(trial.epochs.values())
        else:
            assert trial.state == "pruned"
            assert len(trial.epochs) < 3
    processes = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    assert not (tmp_path / "work" / "trials").exists()


def test_one_worker_draws_the_same_values_again_wherever_it_works(bowl: Any, data: Path, tmp_path: Path) -> None:
    recipe = StudyRecipe(trials=9, startup_trials=3)
    once, again = (run_study(recipe, SPACE, bowl(), training_run(data, tmp_path / name)) for name in ("a?b", "c%20d"))
    assert [(trial.parameters, trial.value) for trial in once] == [(trial.parameters, trial.value) for trial in again]


def test_going_on_adds_trials_and_repeats_none(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path / "work")
    told: list[Trial] = []
    first = run_study(StudyRecipe(trials=3, sampler="random"), SPACE, bowl(), run)
    second = run_study(StudyRecipe(trials=6, sampler="random"), SPACE, bowl(), run, on_trial=told.append)
    assert second[:3] == first
    assert len(second) == 6
    assert len({tuple(trial.parameters.values()) for trial in second}) == 6
    assert [trial.number for trial in told] == list(range(6))
    assert run_study(StudyRecipe(trials=6, sampler="random"), SPACE, bowl(), run) == second


def test_four_workers_share_the_storage_whatever_is_killed(bowl: Any, data: Path, tmp_path: Path) -> None:
    """One worker is killed, then the whole study with its other workers; the second session ends it."""
    script = tmp_path / "study.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            from cloud_assets_tests.lifecycle.studied_recipe import Bowl
            from cloud_assets_tests.lifecycle.test_study_trials import SPACE, StudyRecipe, run_study, training_run

            run = training_run(Path({str(data)!r}), Path({str(tmp_path / "work")!r}))
            base = Bowl(seconds=0.2, log={str(tmp_path / "log")!r})
            run_study(StudyRecipe(trials=12, workers=4, pruner="none"), SPACE, base, run)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment)
    log = tmp_path / "log"

    def begun(count: int) -> list[list[str]]:
        deadline = time.monotonic() + 90
        while not (log.exists() and len(log.read_text().splitlines()) >= count):
            assert process.poll() is None, "the study ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return [line.split() for line in log.read_text().splitlines()]

    os.kill(int(begun(4)[-1][0]), signal.SIGKILL)
    begun(8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    workers = {int(line[0]) for line in begun_lines(log)}
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its study"
        time.sleep(0.02)

    base = bowl(seconds=0.2, log=str(log))
    recipe = StudyRecipe(trials=12, workers=4, pruner="none")
    trials = run_study(recipe, SPACE, base, training_run(data, tmp_path / "work"))

    interrupted = {trial.number: trial for trial in trials if trial.state == "interrupted"}
    assert 2 <= len(interrupted) <= 5
    assert states(trials) == {"complete": 12, "interrupted": len(interrupted)}
    repeated = {trial.retry_of: trial for trial in trials if trial.retry_of is not None}
    assert set(repeated) == set(interrupted)
    for number, trial in interrupted.items():
        assert trial.parameters.items() <= repeated[number].parameters.items()
    # Trained exactly: every trial once, and once more in its old workspace for each time that it was interrupted. One
    # may have been killed before its training began.
    lines = begun_lines(log)
    assert len({line[2] for line in lines}) == 12
    assert len(lines) <= 12 + len(interrupted)
    assert [line[3] for line in lines].count("False") >= len(lines) - 12


def test_a_trial_killed_before_the_storage_knows_its_end_goes_on_in_its_workspace(
    bowl: Any, data: Path, tmp_path: Path
) -> None:
    base = bowl(fault="die_untold", log=str(tmp_path / "log"))
    trials = run_study(StudyRecipe(trials=1), SPACE, base, training_run(data, tmp_path / "work"))
    assert states(trials) == {"complete": 1, "interrupted": 1}
    assert [line[1:] for line in begun_lines(tmp_path / "log")] == [["0000", "0.1", "True"], ["0000", "0.1", "False"]]


def begun_lines(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


def test_other_search_space_metric_or_data_under_the_same_name_are_refused(
    bowl: Any, data: Path, tmp_path: Path
) -> None:
    run = training_run(data, tmp_path / "work")
    recipe = StudyRecipe(trials=1, name="bowls")
    run_study(recipe, SPACE, bowl(), run)
    narrower = SearchSpace({"optimisation.rate": FloatRange(low=0.01, high=0.5)})
    with pytest.raises(InvalidRecipe, match=r"search space.*another name"):
        run_study(recipe, narrower, bowl(), run)
    with pytest.raises(InvalidRecipe, match="metric val_loss, now threads"):
        run_study(recipe.model_copy(update={"metric": "threads"}), SPACE, bowl(), run)
    with pytest.raises(InvalidRecipe, match="splits version"):
        run_study(recipe, SPACE, bowl(), replace(run, splits=GroupedSplit(stratify=None, seed=5).split(run.store)))
    with pytest.raises(InvalidRecipe, match="recipe"):
        run_study(recipe, SPACE, bowl(seconds=0.1), run)
    # What is varied anyway does not make it another study.
    assert len(run_study(recipe.model_copy(update={"trials": 2}), SPACE, bowl(shape="square"), run)) == 2


def test_without_a_name_another_recipe_is_another_study(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path)
    bases = (bowl(), bowl(seconds=0.1), bowl(shape="square"))
    names = [study.study_name(study.study_identity(StudyRecipe(), SPACE, base, run)) for base in bases]
    assert names[0] == names[2] != names[1]


def test_failing_trial_is_recorded_and_the_study_goes_on(bowl: Any, data: Path, tmp_path: Path) -> None:
    space = SearchSpace({"fault": Choice(options=("none", "raise"))})
    run = training_run(data, tmp_path / "work")
    trials = run_study(StudyRecipe(trials=6, sampler="random", pruner="none"), space, bowl(), run)
    failed = [trial for trial in trials if trial.state == "failed"]
    assert 0 < len(failed) < 6
    assert all(trial.parameters["fault"] == "raise" for trial in failed)
    assert all("the bowl is broken" in trial.reason for trial in failed)


def test_study_whose_trials_all_fail_stops(bowl: Any, data: Path, tmp_path: Path) -> None:
    run = training_run(data, tmp_path / "work")
    with pytest.raises(TrainingFailed, match="the bowl is broken"):
        run_study(StudyRecipe(trials=50), SPACE, bowl(fault="raise"), run)
    with pytest.raises(TrainingFailed):
        run_study(StudyRecipe(trials=50), SPACE, bowl(fault="raise"), run)


def test_trial_that_always_kills_its_process_is_given_up(bowl: Any, data: Path, tmp_path: Path) -> None:
    space = SearchSpace({"fault": Choice(options=("none", "die"))})
    run = training_run(data, tmp_path / "work")
    trials = run_study(StudyRecipe(trials=3, retries=1), space, bowl(fault="die"), run)
    assert [trial.parameters["fault"] for trial in trials if trial.state == "failed"].count("die") >= 1
    assert states(trials)["failed"] + states(trials)["complete"] == 3
    assert states(trials)["interrupted"] == states(trials)["failed"]


def test_hanging_trial_is_killed_and_slow_one_cut_short(
    bowl: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "_START_SECONDS", 2.0)
    space = SearchSpace({"fault": Choice(options=("none", "hang"))})
    limited = StudyRecipe(trials=3, trial_minutes=0.005, pruner="none", sampler="random", seed=1, retries=0)
    by_fault: dict[object, set[tuple[str, str, int]]] = {"none": set(), "hang": set()}
    for trial in run_study(limited, space, bowl(seconds=0.4), training_run(data, tmp_path / "work")):
        by_fault[trial.parameters["fault"]].add((trial.state, trial.reason, len(trial.epochs)))
    assert by_fault == {"none": {("complete", "time limit", 1)}, "hang": {("failed", "its process ended", 0)}}


def test_metric_that_no_epoch_has_is_named(bowl: Any, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"'accuracy'.*val_loss"):
        run_study(StudyRecipe(trials=1, metric="accuracy"), SPACE, bowl(), training_run(data, tmp_path))


def test_second_process_is_kept_out(bowl: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(study, "_LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / "study.lock"), pytest.raises(AlreadyRunning, match="Another process"):
        run_study(StudyRecipe(trials=1), SPACE, bowl(), training_run(data, tmp_path))


def test_shared_storage_repeats_a_trial_that_falls_silent(
    bowl: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else uses the storage may be at work: only its heartbeat tells."""
    monkeypatch.setattr(study, "HEARTBEAT_SECONDS", 1)
    recipe = StudyRecipe(trials=2, pruner="none", storage=f"sqlite:///{tmp_path}/study.db")
    trials = run_study(recipe, SPACE, bowl(fault="die_once"), training_run(data, tmp_path / "work"))
    assert states(trials) == {"complete": 2, "interrupted": 2}
    assert not (tmp_path / "work" / "study.db").exists()


def test_unreachable_storage_keeps_the_password_to_itself(bowl: Any, data: Path, tmp_path: Path) -> None:
    recipe = StudyRecipe(trials=1, storage=f"sqlite://user:secret@/{tmp_path}/none/study.db")
    with pytest.raises(SourceUnreachable, match="cannot be opened") as caught:
        run_study(recipe, SPACE, bowl(), training_run(data, tmp_path / "work"))
    assert "secret" not in str(caught.value)


def test_trial_that_was_given_up_but_not_queued_again_is_repeated(bowl: Any, data: Path, tmp_path: Path) -> None:
    """A session that is killed between the two leaves a failed trial without a reason."""
    run, recipe = training_run(data, tmp_path / "work"), StudyRecipe(trials=2, pruner="none")
    opened = study.run_study(recipe, SPACE, bowl(), run)
    lost = opened.ask({"optimisation.rate": FloatDistribution(0.01, 1.0, log=True)})
    opened.tell(lost, state=TrialState.FAIL)
    trials = run_study(recipe.model_copy(update={"trials": 3}), SPACE, bowl(), run)
    assert [(trial.state, trial.retry_of) for trial in trials[2:]] == [("interrupted", None), ("complete", 2)]
    assert trials[3].parameters["optimisation.rate"] == lost.params["optimisation.rate"]


def test_two_sessions_repeat_a_trial_once(bowl: Any, data: Path, tmp_path: Path) -> None:
    run, recipe = training_run(data, tmp_path / "work"), StudyRecipe(trials=2, pruner="none")
    opened = study.run_study(recipe, SPACE, bowl(), run)
    opened.tell(opened.ask(), state=TrialState.FAIL)
    for _ in range(2):
        RetryHeartbeatStaleTrialCallback(2)(opened, opened.get_trials()[2])
    trials = run_study(recipe.model_copy(update={"trials": 5}), SPACE, bowl(), run)
    assert states(trials) == {"complete": 5, "interrupted": 1}
    assert [trial.retry_of for trial in trials].count(2) == 1
