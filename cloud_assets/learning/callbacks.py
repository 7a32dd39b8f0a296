"""What happens around the steps of a training: clock, history, checkpoints, guard against divergence, progress."""

import csv
import errno
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor
from tqdm import tqdm

from cloud_assets.errors import StorageFull, TrainingFailed
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.storage import atomic_file

LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"


class Clock(Callback):
    """Counts the training's wall-clock time, interruptions left out, and ends it with its budget.

    Args:
        budget_seconds: The budget; None for none. Leaves room for the last validation.
    """

    def __init__(self, budget_seconds: float | None) -> None:
        self._budget = budget_seconds
        self._before = 0.0
        self._validation = 0.0
        self._started = time.monotonic()
        self._validation_started = 0.0

    @property
    def seconds(self) -> float:
        """Seconds trained so far."""
        return self._before + time.monotonic() - self._started

    @property
    def share(self) -> float:
        """Share of the budget that is used up, 0…1; 0 without a budget."""
        if self._budget is None:
            return 0.0
        return min(1.0, self.seconds / max(self._budget - self._validation, 1e-9))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the training after this step if the budget is used up; validation still follows."""
        if self.share >= 1.0:
            trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to time the validation."""
        self._validation_started = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes note of how long it was."""
        self._validation = time.monotonic() - self._validation_started

    def state_dict(self) -> dict[str, float]:
        """Seconds so far."""
        return {"seconds": self.seconds, "validation": self._validation}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Goes on counting from there."""
        self._before, self._validation = state_dict["seconds"], state_dict["validation"]
        self._started = time.monotonic()


class Reseed(Callback):
    """Seeds torch anew for each epoch, so that a resumed training draws what an uninterrupted one would."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds before the first step: making the loader draws a number too, now before the hooks, now after."""
        if batch_idx > 0:
            return
        torch.manual_seed(int(np.random.SeedSequence((self._seed, trainer.current_epoch)).generate_state(1)[0]))


class History(Callback):
    """Keeps one row of metrics an epoch, writes them to ``history.csv``, and tells the run's listener.

    Args:
        run: Whose checkpoint folder to write to, and whom to tell.
        clock: The training's clock.
    """

    def __init__(self, run: TrainingRun, clock: Clock) -> None:
        self.rows: list[dict[str, float]] = []
        self._run = run
        self._clock = clock

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a row."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        metrics["seconds"] = round(self._clock.seconds, 3)
        epoch = len(self.rows)
        self.rows.append({"epoch": float(epoch), **metrics})
        with atomic_file(self._run.checkpoints / "history.csv") as path, path.open("w", newline="") as file:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({**row, "epoch": int(row["epoch"])} for row in self.rows)
        self._run.on_epoch(epoch, metrics)

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on after them."""
        self.rows = list(state_dict["rows"])


class KeepCheckpoints(Checkpoint):
    """Saves a checkpoint an epoch, and keeps the one that was best on validation.

    Both are written under another name and renamed, the best one first: killed at any moment, what is left is a state
    from which the same training goes on.

    Args:
        folder: Where to keep them.
        monitor: Validation metric to judge by.
        mode: ``max`` or ``min``.
    """

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        self._folder = folder
        self._monitor = monitor
        self._sign = 1.0 if mode == "max" else -1.0
        self.best_score = -math.inf
        self.best_epoch = -1
        self.is_complete = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        score = self._sign * float(trainer.callback_metrics[self._monitor])
        is_best = score > self.best_score
        if is_best:
            self.best_score, self.best_epoch = score, trainer.current_epoch
        self.is_complete = trainer.should_stop or trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        last = self._folder / LAST_CHECKPOINT
        try:
            if is_best:
                best = self._folder / BEST_CHECKPOINT
                _save(trainer, best)
                _copy(best, last)
            else:
                _save(trainer, last)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StorageFull(
                    f"the disk is full, {last} could not be written. The checkpoint of the epoch before is kept: make "
                    "room and run again, training goes on from there."
                ) from error
            raise

    def state_dict(self) -> dict[str, Any]:
        """What was best, and whether the training had come to its end."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch, "is_complete": self.is_complete}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on comparing with it."""
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]
        self.is_complete = state_dict["is_complete"]


def _save(trainer: Trainer, path: Path) -> None:
    # Lightning's own writing is not atomic where temporary files lie on another file system.
    with atomic_file(path) as temporary:
        trainer.save_checkpoint(temporary)


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, temporary)


class DivergenceGuard(Callback):
    """Stops a training whose loss or validation metric is infinite or not a number, before it spoils the weights.

    Args:
        folder: Where the checkpoints are.
        monitor: Validation metric to look at.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        self._folder = folder
        self._monitor = monitor

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Looks at the loss before it becomes a step."""
        if not bool(torch.isfinite(loss)):
            self._stop("the training loss", float(loss.detach()), trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the validation metrics."""
        for name in (self._monitor, "val_loss"):
            value = float(trainer.callback_metrics.get(name, 0.0))
            if not math.isfinite(value):
                self._stop(name, value, trainer)

    def _stop(self, what: str, value: float, trainer: Trainer) -> None:
        kept = (
            f"The last good weights are kept in {self._folder}."
            if (self._folder / BEST_CHECKPOINT).exists()
            else "No epoch had been completed, so there are no good weights yet."
        )
        raise TrainingFailed(
            f"training diverged: {what} is {value} at step {trainer.global_step} (epoch {trainer.current_epoch}). "
            f"{kept} Lower the learning rate, set gradient_clip, use precision '32', or look for extreme values among "
            "the training patches."
        )


class ProgressBar(Callback):
    """One bar over all batches, and one line of metrics an epoch.

    Args:
        title: What is trained.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar, where a resumed training stands."""
        steps = int(trainer.num_training_batches)
        # In a log file each refresh is a line of its own.
        interval = 0.5 if sys.stderr.isatty() else 30.0
        total, initial = steps * (trainer.max_epochs or 0), steps * trainer.current_epoch
        self._bar = tqdm(total=total, initial=initial, desc=self._title, unit="batch", mininterval=interval)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advances it."""
        if self._bar is not None:
            self._bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch's metrics."""
        if self._bar is not None:
            metrics = "  ".join(
                f"{name} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items())
            )
            self._bar.write(f"{self._title}  epoch {trainer.current_epoch}  {metrics}", file=sys.stderr)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
