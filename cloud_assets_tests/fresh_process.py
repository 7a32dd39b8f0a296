"""Trainings in a process of their own, as a job's trainings are, for those that start loading processes.

One that has run a thousand other tests is full of other libraries' threads and memory: with loading processes beside
it, it was ended now and then without a word.
"""

import faulthandler
import multiprocessing
from pathlib import Path
from typing import Any

from cloud_assets.learning.training_run import TrainingRun
from cloud_assets_tests.any_family import train_by


def version_trained_afresh(recipe: Any, run: TrainingRun) -> str:
    """Trains in a new process; fails with its exit code, and what it printed, if it does not end well.

    Args:
        recipe: Any recipe with ``train``.
        run: Where and on what; its listeners have to survive the way into another process.

    Returns:
        The version of the model, a hash of its weights and of what decides its answers.
    """
    answer = run.workspace.with_suffix(".version")
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(recipe, run, answer))
    process.start()
    process.join()
    assert process.exitcode == 0, f"the training's process ended with {process.exitcode}"
    return answer.read_text(encoding="utf-8")


def _train(recipe: Any, run: TrainingRun, answer: Path) -> None:
    faulthandler.enable()
    answer.write_text(str(train_by(recipe, run).version), encoding="utf-8")
