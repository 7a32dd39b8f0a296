import dataclasses
import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from cloud_assets.errors import InvalidRecipe, StorageFull, TrainingFailed
from cloud_assets.families.segmentation import train
from cloud_assets.families.segmentation.recipe import RANDOM_SENSORS, Segmentation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.callbacks import Budget
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.reports.evaluation import inherited_notes, report_sections
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.fresh_process import version_trained_afresh

Recipe = Callable[..., Segmentation]
Run = Callable[..., TrainingRun]


class Interrupted(Exception):
    pass


def same_weights(first: ModelBundle, second: ModelBundle) -> bool:
    others = second.state_dict()
    return all(torch.equal(tensor, others[name]) for name, tensor in first.state_dict().items())


def without_time(bundle: ModelBundle) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in bundle.card.training.history]


def interrupt_at(epoch: int) -> Callable[[int, Mapping[str, float]], None]:
    def listener(reached: int, metrics: Mapping[str, float]) -> None:
        if reached == epoch:
            raise Interrupted

    return listener


@pytest.mark.parametrize(
    "settings",
    [
        {"scheduler": "plateau", "plateau_patience": 0, "plateau_factor": 0.1, "patience": 3},
        {"scheduler": "linear", "weight_averaging": 0.9, "optimiser": "sgd", "patience": None},
        {"scheduler": "one_cycle", "optimiser": "rmsprop", "precision": "bf16"},
    ],
    ids=["plateau", "averaged", "one_cycle"],
)
def test_a_resumed_training_ends_like_an_uninterrupted_one(
    toy_recipe: Recipe, toy_run: Run, settings: dict[str, object]
) -> None:
    recipe = toy_recipe(max_epochs=5, **settings)
    whole = train_by(recipe, toy_run("whole"))
    with pytest.raises(Interrupted):
        train_by(recipe, toy_run("parts", on_epoch=interrupt_at(1)))
    with pytest.raises(Interrupted):
        train_by(recipe, toy_run("parts", on_epoch=interrupt_at(3)))
    epochs: list[int] = []
    resumed = train_by(recipe, toy_run("parts", on_epoch=lambda epoch, _: epochs.append(epoch)))
    assert epochs == list(range(3, len(whole.card.training.history)))
    assert without_time(resumed) == without_time(whole)
    assert same_weights(whole, resumed)
    assert resumed.version == whole.version


def _train_and_die(recipe: Segmentation, run: TrainingRun) -> None:
    def die(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    train_by(recipe, TrainingRun(run.task, run.variant, run.store, run.splits, run.workspace, die, progress=False))


def test_it_goes_on_after_kill_9(toy_recipe: Recipe, toy_run: Run) -> None:
    recipe = toy_recipe(max_epochs=4)
    run = toy_run("killed")
    process = multiprocessing.get_context("spawn").Process(target=_train_and_die, args=(recipe, _bare(run)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert same_weights(train_by(recipe, run), train_by(recipe, toy_run("whole")))


def _bare(run: TrainingRun) -> TrainingRun:
    return TrainingRun(run.task, run.variant, run.store, run.splits, run.workspace)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(toy_recipe: Recipe, toy_run: Run) -> None:
    first, second, other = (
        train_by(toy_recipe(max_epochs=2, seed=seed), toy_run(name))
        for name, seed in (("first", 1), ("second", 1), ("other", 2))
    )
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_loading_processes_change_nothing(toy_recipe: Recipe, toy_run: Run) -> None:
    mixed = {"augmentation": RANDOM_SENSORS, "simulated_fraction": 0.5, "simulated_patches": 2, "crop": 32,
             "composited_fraction": 1.0}  # fmt: skip
    alone, helped = (toy_recipe(max_epochs=1, workers=workers, **mixed) for workers in (0, 2))
    assert train_by(alone, toy_run("alone")).version == version_trained_afresh(helped, toy_run("helped"))


def test_a_finished_training_is_not_repeated(toy_recipe: Recipe, toy_run: Run) -> None:
    recipe = toy_recipe()
    first = train_by(recipe, toy_run())
    again = train_by(recipe, toy_run(on_epoch=interrupt_at(0)))
    assert again.version == first.version
    assert again.card.training.history == first.card.training.history
    assert again.card.training.seconds == pytest.approx(first.card.training.seconds, abs=1)


def test_an_infinite_loss_stops_it_and_keeps_the_last_good_weights(
    toy_recipe: Recipe, toy_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(1000))
    honest = train.SegmentationModule.training_step

    def spoiled(
        self: train.SegmentationModule, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        return honest(self, batch, batch_idx) * (float("nan") if next(steps) == 6 else 1.0)

    monkeypatch.setattr(train.SegmentationModule, "training_step", spoiled)
    run = toy_run()
    with pytest.raises(TrainingFailed, match=r"training loss is nan at step 6 \(epoch 2\)") as caught:
        train_by(toy_recipe(steps_per_epoch=4), run)
    assert str(run.checkpoints) in str(caught.value)
    kept = torch.load(run.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())


def test_a_full_disk_costs_one_epoch_at_most(toy_recipe: Recipe, toy_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch import Trainer

    saved: list[Path] = []
    honest = Trainer.save_checkpoint

    def fill_the_disk(self: Trainer, path: Path) -> None:
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(self, path)

    recipe = toy_recipe(max_epochs=4)
    run = toy_run("parts")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", fill_the_disk)
        with pytest.raises(StorageFull, match="make room and run again"):
            train_by(recipe, run)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["best.ckpt", "history.csv", "last.ckpt"]
    assert same_weights(train_by(recipe, run), train_by(recipe, toy_run("whole")))


@pytest.mark.parametrize(
    "settings",
    [{"steps": 10}, {"max_epochs": 5, "steps_per_epoch": 2}, {"steps": 9999, "max_epochs": 5, "steps_per_epoch": 2}],
)
def test_it_ends_with_its_steps_and_the_learning_rate_with_them(
    toy_recipe: Recipe, toy_run: Run, settings: dict[str, int]
) -> None:
    record = train_by(toy_recipe(**{"scheduler": "linear", "patience": None, **settings}), toy_run()).card.training
    assert (record.steps_run, record.stopped_by) == (10, "steps")
    assert record.history[-1]["learning_rate"] == pytest.approx(1e-2 * 0.1)
    assert len(record.history) == settings.get("max_epochs", 3)  # the last epoch of 4 steps may be shorter


def test_a_time_limit_ends_it_early_and_is_reported(
    toy_recipe: Recipe, toy_run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = toy_recipe(
        steps=10_000, max_epochs=500, steps_per_epoch=20, budget_minutes=2 / 60, scheduler="linear", patience=None
    )
    started = time.monotonic()
    run = toy_run()
    bundle = train_by(recipe, run)
    assert time.monotonic() - started < 8
    record = bundle.card.training
    assert record.stopped_by == "time limit"
    assert record.steps_run is not None
    assert f"the time limit (budget_minutes: 0.0333333) ends the training after {record.steps_run} of" in caplog.text
    assert (
        report_sections(run.store, bundle.card)["Training"]["ended by"] == f"time limit, after {record.steps_run} steps"
    )
    assert "The time limit ended the training" in inherited_notes(run.store, bundle.card)[-1]
    # The clock changes nothing but the end: the rate is that of the step, as on any machine.
    assert record.history[-1]["learning_rate"] == pytest.approx(1e-2 * (1 - (record.steps_run - 1) / 10_000))
    assert train_by(recipe, run).card.training.stopped_by == "time limit"


def test_epochs_say_which_share_of_the_budget_is_used_up(
    toy_recipe: Recipe, toy_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    run = dataclasses.replace(toy_run(), progress=True)
    train_by(toy_recipe(steps=6, steps_per_epoch=4), run)
    output = capfd.readouterr().err.splitlines()
    assert [line.split(" of the budget")[0].strip() for line in output] == ["epoch 1  67%", "epoch 2  100%"]
    assert "00:00 left" in output[1]


def test_the_bar_follows_the_share_of_the_budget_that_ends_first() -> None:
    steps, clock = Budget("title", 10, 60), Budget("title", 10_000, 1e-9)
    steps.done = clock.done = 5
    assert steps.share == 0.5
    assert clock.share == 1.0


def test_it_stops_for_want_of_progress(toy_recipe: Recipe, toy_run: Run) -> None:
    recipe = toy_recipe(max_epochs=20, learning_rate=1e-12, patience=2, scheduler="plateau", plateau_patience=0)
    record = train_by(recipe, toy_run()).card.training
    assert len(record.history) < 20
    assert record.stopped_by == "early stopping"
    assert record.history[-1]["learning_rate"] < 1e-12


def test_history_is_written_and_told(toy_recipe: Recipe, toy_run: Run) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    run = toy_run(on_epoch=lambda epoch, metrics: told.append((epoch, dict(metrics))))
    train_by(toy_recipe(max_epochs=2), run)
    assert [epoch for epoch, _ in told] == [0, 1]
    assert {"train_loss", "val_loss", "val_iou", "val_f1", "learning_rate", "seconds"} <= told[0][1].keys()
    lines = (run.checkpoints / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]


def test_averaged_weights_are_validated_and_kept(toy_recipe: Recipe, toy_run: Run) -> None:
    plain = train_by(toy_recipe(max_epochs=2), toy_run("plain"))
    averaged = train_by(toy_recipe(max_epochs=2, weight_averaging=0.9), toy_run("averaged"))
    assert not same_weights(plain, averaged)
    # The average follows the weights, it does not lead them: training itself is the same.
    assert [row["train_loss"] for row in averaged.card.training.history] == [
        row["train_loss"] for row in plain.card.training.history
    ]


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("setting", "message"),
    [({"device": "cuda"}, "no such GPU"), ({"device": "mps"}, "no such GPU"), ({"precision": "16"}, "GPU")],
)
def test_what_needs_a_gpu_says_so(toy_recipe: Recipe, toy_run: Run, setting: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        train_by(toy_recipe(**setting), toy_run())


def test_the_trainer_is_silent(
    toy_recipe: Recipe, toy_run: Run, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    train_by(toy_recipe(max_epochs=1), toy_run())
    assert [str(warning.message) for warning in recwarn if "ightning" in str(warning.filename)] == []
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err == ""
