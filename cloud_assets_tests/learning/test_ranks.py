"""Trainings on two ranks, which are processes of this machine, held against one; each is bound in time."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cloud_assets.errors import InvalidRecipe, TrainingFailed
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.callbacks import LAST_CHECKPOINT
from cloud_assets.learning.numbered_batches import EpochSampler
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.families.samples import SAMPLES

pytestmark = pytest.mark.timeout(240)

_ROUNDING = {"rel": 2e-3, "abs": 2e-4}
"""Rounding of single precision, after a few steps of a network."""


class Interrupted(Exception):
    pass


def on(recipe: Any, devices: int, **optimisation: Any) -> Any:
    changes = {"devices": devices, **optimisation}
    return recipe.model_copy(update={"optimisation": recipe.optimisation.model_copy(update=changes)})


def curve(bundle: ModelBundle) -> list[dict[str, float]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in bundle.card.training.history]


def assert_same_curve(first: ModelBundle, second: ModelBundle) -> None:
    assert len(curve(first)) == len(curve(second))
    for one, other in zip(curve(first), curve(second), strict=True):
        assert one == pytest.approx(other, **_ROUNDING)


def helpers() -> list[int]:
    """Process identifiers of the ranks."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "popen_loky"], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def test_the_parts_of_the_ranks_are_the_batches_of_one() -> None:
    numbers = []
    for rank in range(4):
        sampler = EpochSampler(3, rank, 4)
        sampler.set_epoch(2)
        numbers.append(list(sampler))
    assert numbers[1] == [25, 29, 33]
    assert sorted(number for part in numbers for number in part) == list(range(24, 36))


def test_two_ranks_learn_as_one_and_one_goes_on_where_they_stopped(
    toy_recipe: Callable[..., Segmentation], toy_run: Callable[..., TrainingRun]
) -> None:
    """With batch normalisation, a scheduler that follows validation, and listeners that stay in this process."""
    recipe = toy_recipe(max_epochs=3, weight_averaging=0.9, plateau_patience=0, steps_per_epoch=3, budget_minutes=60)
    told: list[tuple[int, int]] = []

    def stop_in_the_second(epoch: int, metrics: Mapping[str, float]) -> None:
        told.append((epoch, os.getpid()))
        if epoch == 1:
            raise Interrupted

    whole = train_by(recipe, toy_run("whole"))
    with pytest.raises(Interrupted):
        train_by(on(recipe, 2), toy_run("parts", on_epoch=stop_in_the_second))
    assert told == [(0, os.getpid()), (1, os.getpid())]
    assert not helpers()
    resumed = train_by(recipe, toy_run("parts", on_epoch=lambda epoch, _: told.append((epoch, os.getpid()))))
    assert [epoch for epoch, _ in told] == [0, 1, 1, 2]
    assert_same_curve(resumed, whole)


def test_a_rank_that_dies_ends_the_training_and_leaves_no_process(
    toy_recipe: Callable[..., Segmentation], toy_run: Callable[..., TrainingRun]
) -> None:
    def kill_one(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch == 1:
            os.kill(helpers()[1], signal.SIGKILL)

    run = toy_run(on_epoch=kill_one)
    with pytest.raises(
        TrainingFailed, match=r"toy/unet: one of 2 ranks died.*SIGKILL.*goes on from the last checkpoint"
    ):
        train_by(toy_recipe(devices=2, max_epochs=500, patience=None, steps_per_epoch=1), run)
    assert (run.checkpoints / LAST_CHECKPOINT).exists()
    assert not helpers()


@pytest.mark.slow
@pytest.mark.parametrize("family", SAMPLES)
def test_every_family_learns_on_two_ranks_as_on_one(family: str, tmp_path: Path) -> None:
    sample = SAMPLES[family]
    recipe: Any = sample.recipe
    if family == "translation":
        recipe = recipe.model_copy(update={"pool": 3})
    store = sample.store(tmp_path / "store")
    splits = sample.split.split(store)
    pictures: list[bytes] = []
    first, second = (
        train_by(
            on(recipe, devices, batch_size=4),
            TrainingRun(
                "toy", family, store, splits, tmp_path / f"{devices}", progress=False,
                on_picture=lambda epoch, name, png: pictures.append(png),
            ),
        )
        for devices in (1, 2)
    )  # fmt: skip
    assert_same_curve(first, second)
    assert len(pictures) == (4 if family == "translation" else 0)


def test_the_number_of_ranks_does_not_identify_a_training(
    toy_recipe: Callable[..., Segmentation], toy_store: PatchStore, toy_splits: Splits
) -> None:
    one, two = (fingerprint(toy_recipe(devices=devices), toy_store, toy_splits) for devices in (1, 2))
    assert one == two


def test_a_batch_that_cannot_be_shared_out_is_refused(
    toy_recipe: Callable[..., Segmentation], toy_run: Callable[..., TrainingRun]
) -> None:
    with pytest.raises(InvalidRecipe, match="batch_size 4 is not a multiple of devices 3"):
        train_by(toy_recipe(devices=3), toy_run())
