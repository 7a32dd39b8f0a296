"""Callbacks of every training: budget, learning rate, seeds, history, checkpoints, weight averaging, progress bar."""

import errno
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from cloud_assets.errors import StorageFull, TrainingFailed
from cloud_assets.inference.bundle import StoppedBy
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.progress import progress_bar
from cloud_assets.storage import atomic_file, link_or_copy

LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"
_RISE = 0.3  # share of a one-cycle training in which the rate rises (Smith & Topin 2017, arXiv:1708.07120)


class Budget(Callback):
    """Counts the steps and the wall-clock time of a training, and ends it when either is used up.

    Validation follows the last step. Interruptions do not count. Learning rate and progress bar follow the share of the
    steps; the limit in minutes ends a training early and changes nothing else.
    """

    def __init__(self, title: str, steps: int, minutes: float | None) -> None:
        self.steps = steps
        self.done = 0
        self.stopped_by: StoppedBy | None = None
        self._title = title
        self._minutes = minutes
        self._before = self._validation = 0.0
        self._started = self._validation_started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds trained so far."""
        return self._before + time.monotonic() - self._started

    @property
    def share(self) -> float:
        """Share of the budget that is used up, 0…1: of the steps or of the time, whichever ends first."""
        time_share = 0.0 if self._minutes is None else self.seconds / (60 * self._minutes)
        return min(1.0, max(self.done / self.steps, time_share))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a step, and ends the training after the last one or when the time only suffices for validation."""
        self.done += 1
        if self.done >= self.steps:
            self.stopped_by = "steps"
        elif self._minutes is not None and trainer.strategy.reduce_boolean_decision(
            self.seconds + self._validation >= 60 * self._minutes,
            all=False,  # the first clock of all ranks to say so
        ):
            self.stopped_by = "time limit"
            logging.getLogger(__name__).warning(
                "%s: the time limit (budget_minutes: %g) ends the training after %d of %d steps, before the learning "
                "rate has run its course. Set steps to what this machine can do in that time, or raise the limit.",
                self._title,
                self._minutes,
                self.done,
                self.steps,
            )
        trainer.should_stop |= self.stopped_by is not None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to time the validation."""
        self._validation_started = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers how long the validation took."""
        self._validation = time.monotonic() - self._validation_started

    def state_dict(self) -> dict[str, Any]:
        """Counts so far, and what ended the training."""
        counts = {"done": self.done, "seconds": self.seconds, "validation": self._validation}
        return {**counts, "stopped_by": self.stopped_by}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resumes the counts."""
        self.done, self.stopped_by = state_dict["done"], state_dict["stopped_by"]
        self._before, self._validation = state_dict["seconds"], state_dict["validation"]
        self._started = time.monotonic()


def rate_factor(optimisation: Optimisation, progress: float) -> float:
    """What the learning rate is multiplied by when a share of the training is over, both 0…1.

    Always 1 for ``constant`` and for ``plateau``, which goes by the validation metric instead.
    """
    decaying = max(0.0, progress - optimisation.decay_start) / (1 - optimisation.decay_start)
    match optimisation.scheduler:
        case "linear":
            return 1 - decaying
        case "cosine":
            return (1 + math.cos(math.pi * decaying)) / 2
        case "one_cycle":
            if progress < _RISE:
                return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / _RISE)) / 2
            return (1 + math.cos(math.pi * (progress - _RISE) / (1 - _RISE))) / 2
        case _:
            return 1.0


class LearningRate(Callback):
    """Sets the learning rate of every optimiser, whether a module optimises automatically or by hand.

    It follows the share of the budget's steps that are done, never the clock: the same recipe gives the same rates on
    any machine. Only ``plateau`` follows a validation metric, which should be largest (``max``) or smallest (``min``).
    """

    def __init__(self, optimisation: Optimisation, budget: Budget, monitor: str, mode: Literal["max", "min"]) -> None:
        self._optimisation, self._budget = optimisation, budget
        self._monitor, self._mode = monitor, mode
        self._plateaus: list[ReduceLROnPlateau] = []
        self._restored: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stores the initial rates; restores the state of an interrupted training."""
        for optimiser in trainer.optimizers:
            for group in optimiser.param_groups:
                group.setdefault("initial_lr", group["lr"])
        if self._optimisation.scheduler != "plateau":
            return
        factor, patience = self._optimisation.plateau_factor, self._optimisation.plateau_patience
        self._plateaus = [
            ReduceLROnPlateau(optimiser, self._mode, factor=factor, patience=patience, eps=0)
            for optimiser in trainer.optimizers
        ]
        for plateau, state in zip(self._plateaus, self._restored, strict=False):
            plateau.load_state_dict(state)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Sets the rate for the coming step."""
        if self._optimisation.scheduler in ("plateau", "constant"):
            return
        factor = rate_factor(self._optimisation, min(self._budget.done / self._budget.steps, 1.0))
        for optimiser in trainer.optimizers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Steps the plateau schedulers."""
        for plateau in self._plateaus:
            plateau.step(float(trainer.callback_metrics[self._monitor]))

    def state_dict(self) -> dict[str, Any]:
        """State of the plateau schedulers, plain numbers only."""
        states = [plateau.state_dict().items() for plateau in self._plateaus]
        return {
            "plateaus": [{n: value for n, value in state if isinstance(value, int | float | str)} for state in states]
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Keeps the state until the optimisers exist."""
        self._restored = list(state_dict["plateaus"])


class MovingAverage(WeightAveraging):
    """Averages weights and batch norm statistics after each step (Polyak & Juditsky 1992).

    The decay grows with the number of steps, as (1 + n) / (10 + n), so that the random first weights do not linger.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        super().__init__(multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, count: Tensor | int) -> None:
        steps = int(count)
        weight = 1 - min(self._decay, (1 + steps) / (10 + steps))
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(averaged, current, weight)
            return
        for target, source in zip(averaged, current, strict=True):  # batch norm counts its batches in integers
            target.copy_(source)


class Reseed(Callback):
    """Seeds torch anew for each epoch, so that a resumed training draws what an uninterrupted one would."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds before the first step: creating the loader draws a number too, before or after the hooks."""
        if batch_idx > 0:
            return
        torch.manual_seed(int(np.random.SeedSequence((self._seed, trainer.current_epoch)).generate_state(1)[0]))


class History(Callback):
    """Keeps one row of metrics an epoch, writes them to ``history.csv``, and calls the run's listeners."""

    def __init__(self, run: TrainingRun, budget: Budget) -> None:
        self.rows: list[dict[str, float]] = []
        self._run, self._budget = run, budget

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a row."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        metrics["seconds"] = round(self._budget.seconds, 3)
        epoch = len(self.rows)
        self.rows.append({"epoch": float(epoch), **metrics})
        if not trainer.is_global_zero:
            return
        with atomic_file(self._run.checkpoints / "history.csv") as path:
            counted = pd.DataFrame(self.rows).assign(epoch=range(1, epoch + 2))  # from 1 for people
            counted.to_csv(path, index=False)
        module: Any = pl_module
        if (picture := module.picture()) is not None:
            self._run.on_picture(epoch, "samples", picture)
        self._run.on_epoch(epoch, metrics)

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores the rows."""
        self.rows = list(state_dict["rows"])


class KeepCheckpoints(Checkpoint):
    """Saves a checkpoint an epoch, keeps the one that was best on validation, and stops after epochs without a better.

    Unlike Lightning's ``ModelCheckpoint`` it writes both atomically, the best one first: after a kill at any moment
    the training resumes from what is there. The budget is told of early stopping.
    """

    def __init__(self, folder: Path, monitor: str, mode: str, patience: int | None, budget: Budget) -> None:
        self._folder, self._budget, self._monitor = folder, budget, monitor
        self._patience = math.inf if patience is None else patience
        self._sign = 1.0 if mode == "max" else -1.0
        self.best_score = -math.inf
        self.best_epoch = -1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        score = self._sign * float(trainer.callback_metrics[self._monitor])
        is_best = score > self.best_score
        if is_best:
            self.best_score, self.best_epoch = score, trainer.current_epoch
        trainer.should_stop |= trainer.current_epoch - self.best_epoch >= self._patience
        if trainer.should_stop and self._budget.stopped_by is None:
            self._budget.stopped_by = "early stopping"
        last = self._folder / LAST_CHECKPOINT
        if not trainer.is_global_zero:
            trainer.save_checkpoint(last)  # takes part; the first rank writes
            return
        try:
            written = self._folder / BEST_CHECKPOINT if is_best else last
            # Lightning's own writing is not atomic where temporary files lie on another file system.
            with atomic_file(written) as temporary:
                trainer.save_checkpoint(temporary)
            if is_best:
                with atomic_file(last) as temporary:
                    link_or_copy(written, temporary)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StorageFull(
                    f"the disk is full, {last} could not be written. The checkpoint of the epoch before is kept: make "
                    "room and run again, training goes on from there."
                ) from error
            raise

    def state_dict(self) -> dict[str, Any]:
        """Score and number of the best epoch."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores them."""
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]


class DivergenceGuard(Callback):
    """Stops a training whose loss or validation metric is infinite or not a number, before it spoils the weights."""

    def __init__(self, folder: Path, monitor: str) -> None:
        self._folder, self._monitor = folder, monitor

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
            f"training diverged: {what} is {value} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}). "
            f"{kept} Lower the learning rate, set gradient_clip, use precision '32', or look for extreme values among "
            "the training patches."
        )


class ProgressBar(Callback):
    """One bar over the budget, and one line of metrics an epoch."""

    def __init__(self, title: str, budget: Budget) -> None:
        self._title, self._budget = title, budget
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar, at the share that a resumed training has reached."""
        self._bar = progress_bar(
            self._title, 1.0, "", initial=self._budget.share, smoothing=0.05, count="of the budget{postfix}"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advances it."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"step {self._budget.done}", refresh=False)
            self._bar.update(self._budget.share - self._bar.n)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch's metrics."""
        share = self._budget.share
        left = tqdm.format_interval(self._budget.seconds * (1 - share) / share)
        metrics = (f"{name} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items()))
        said = f"epoch {trainer.current_epoch + 1}  {share:.0%} of the budget, {left} left"
        tqdm.write("  ".join(["", said, *metrics]), file=sys.stderr)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
