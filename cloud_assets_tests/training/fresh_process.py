"""Trainings in a process of their own, as a job's trainings are, for those that start loading processes.

One that has run a thousand other tests is full of other libraries' threads and memory: with loading processes beside
it, it was ended now and then without a word.
"""

import faulthandler
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from cloud_assets.training.run import TrainingRun


def version_trained_afresh(recipe: Any, run: TrainingRun) -> str:
    """Trains in a new process.

    Args:
        recipe: Any recipe with ``train``.
        run: Where and on what; its listeners have to survive the way into another process.

    Returns:
        The version of the model, a hash of its weights and of what decides its answers.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=faulthandler.enable) as pool:
        return pool.submit(_version, recipe, run).result()


def _version(recipe: Any, run: TrainingRun) -> str:
    return str(recipe.train(run).version)
