"""Declarations of tasks."""

from dataclasses import replace

import pytest

from cloud_assets.errors import InvalidRecipe
from cloud_assets.tasks import ALL_TASKS
from cloud_assets.tasks.landsat_segmentation import TASK


def test_names_must_fit_into_asset_keys() -> None:
    with pytest.raises(InvalidRecipe, match="clouds/2"):
        replace(TASK, name="clouds/2")
    with pytest.raises(InvalidRecipe, match="my variant"):
        replace(TASK, variants={"my variant": TASK.variants["unet"]}, optional_variants=())
    with pytest.raises(InvalidRecipe, match="no variant"):
        replace(TASK, variants={}, optional_variants=())


def test_tasks_have_the_public_names() -> None:
    variants = {task.name: set(task.variants) for task in ALL_TASKS}
    assert {"unet_efficientnet_b2"} <= variants["cloudsen12_segmentation"]
    assert {"unet", "attention_unet"} <= variants["landsat_segmentation"]
    assert len(variants) == len(ALL_TASKS)


def test_trainings_end_after_steps_and_have_a_time_limit() -> None:
    for task in ALL_TASKS:
        for variant in task.variants.values():
            optimisation = variant.optimisation  # type: ignore[attr-defined]
            assert optimisation.total_steps(100) == optimisation.steps
            assert optimisation.budget_minutes is not None
