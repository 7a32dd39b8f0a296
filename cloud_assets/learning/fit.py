"""Fits the network of any family: one configuration of Lightning's trainer, resumable."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import Dataset

from cloud_assets.errors import InvalidRecipe
from cloud_assets.inference.bundle import TrainingRecord
from cloud_assets.inference.device import choose_device, choose_precision, keep_freed_memory, torch_threads
from cloud_assets.learning.callbacks import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    Budget,
    DivergenceGuard,
    History,
    KeepCheckpoints,
    LearningRate,
    MovingAverage,
    ProgressBar,
    Reseed,
)
from cloud_assets.learning.numbered_batches import EpochSampler, NumberedBatches, loader
from cloud_assets.learning.ranks import WholeBatch, lightning_arguments, place, together, train_in_ranks
from cloud_assets.learning.recipe import Optimisation, Recipe
from cloud_assets.learning.training_run import TrainingRun, fingerprint

_LIGHTNING_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}
_checkpoint = partial(torch.load, map_location="cpu", weights_only=True)


class TrainedModule(LightningModule):
    """Base class of the modules that :func:`fit` trains.

    Subclasses write ``training_step`` (returning the loss) and ``validation_step``, and log ``monitor`` there.
    """

    monitor: ClassVar[str] = "val_iou"  # validation metric by which the best epoch is chosen
    mode: ClassVar[Literal["max", "min"]] = "max"  # whether it should be large or small

    def __init__(self, network: nn.Module, optimisation: Optimisation) -> None:
        super().__init__()
        self.network = network
        self.optimisation = optimisation

    def configure_optimizers(self) -> Any:
        """One optimiser for all weights; :class:`LearningRate` sets its rate."""
        return build_optimiser(self.parameters(), self.optimisation)

    def model_weights(self) -> dict[str, Tensor]:
        """Weights of the network that the model keeps, once the training is over."""
        return self.network.state_dict()

    def picture(self) -> bytes | None:
        """What the network makes of some validation patches, as a PNG file, once an epoch; None for nothing."""
        return None

    def together(self, part: Tensor) -> Tensor:
        """While training, the parts (N, …) of a batch that all ranks have, whose loss is then that of one device."""
        return together(part) if self.training else part

    def to_layout(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in the memory layout of the recipe."""
        layout = torch.channels_last if self.optimisation.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)


def build_optimiser(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], optimisation: Optimisation
) -> torch.optim.Optimizer:
    """Makes the optimiser that a recipe names."""
    shared: Any = {"lr": optimisation.learning_rate, "weight_decay": optimisation.weight_decay}
    if optimisation.optimiser in ("sgd", "rmsprop"):
        shared["momentum"] = optimisation.momentum
    else:
        shared["betas"] = (optimisation.momentum, optimisation.beta2)
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "radam": torch.optim.RAdam, "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
    }  # fmt: skip
    return kinds[optimisation.optimiser](parameters, **shared)


def fit(
    module: TrainedModule,
    training: NumberedBatches,
    validation: Dataset[Any],
    batches_an_epoch: int,
    recipe: Recipe,
    run: TrainingRun,
    extra_callbacks: Sequence[Callback] = (),
) -> TrainingRecord:
    """Trains until the last step, the time limit, or until validation no longer improves.

    A checkpoint is written each epoch to ``run.checkpoints``; if there is one already, training resumes from it, with
    the same batches, learning rate and patience as without interruption. Afterwards the module holds the best weights.

    On several devices each rank trains on its part of every batch. Losses, batch normalisation and dropout are those of
    the whole batch, so the loss curve is that of one device up to rounding (stochastic depth excepted).

    Args:
        module: The family's module.
        training: Batches, by their number.
        validation: Batches; several ranks share them, unless there are fewer than ranks.
        batches_an_epoch: Training batches an epoch.
        recipe: The recipe.
        run: Workspace and callbacks.
        extra_callbacks: Lightning callbacks of the family; their state is kept with the checkpoints.

    Raises:
        TrainingFailed: If the loss or the validation metric becomes infinite or not a number, or a rank dies.
        InvalidRecipe: If device, precision or number of devices is not available, or the batch cannot be shared out.
    """
    optimisation, title = recipe.optimisation, f"{run.task}/{run.variant}"
    device = choose_device(optimisation.device)
    precision = choose_precision(optimisation.precision, device)
    keep_freed_memory()
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    last = run.checkpoints / LAST_CHECKPOINT
    state = _checkpoint(last) if last.exists() else None
    is_finished = state is not None and state["callbacks"]["Budget"]["stopped_by"]
    if not is_finished and optimisation.devices > place()[1]:
        if optimisation.batch_size % optimisation.devices:
            shares = f"batch_size {optimisation.batch_size} is not a multiple of devices {optimisation.devices}"
            raise InvalidRecipe(f"{shares}: each takes the same part of a batch.")
        train = partial(fit, module, training, validation, batches_an_epoch, recipe, extra_callbacks=extra_callbacks)
        train_in_ranks(optimisation.devices, train, run, device)
    elif not is_finished:
        rank, ranks = place()
        steps = optimisation.total_steps(batches_an_epoch)
        budget = Budget(title, steps, optimisation.budget_minutes)
        callbacks: list[Callback] = [
            budget,
            Reseed(optimisation.seed),
            DivergenceGuard(run.checkpoints, module.monitor),
            History(run, budget),
            LearningRate(optimisation, budget, module.monitor, module.mode),
            KeepCheckpoints(run.checkpoints, module.monitor, module.mode, optimisation.patience, budget),
            *extra_callbacks,
        ]
        if optimisation.weight_averaging is not None:
            callbacks.append(MovingAverage(optimisation.weight_averaging))
        if run.progress and rank == 0:
            callbacks.append(ProgressBar(title, budget))
        if optimisation.channels_last:
            module.to(memory_format=torch.channels_last)
        sampler = EpochSampler(batches_an_epoch, rank, ranks)
        if state is not None:
            sampler.set_epoch(int(state["epoch"]) + 1)  # the trainer does so for every epoch but the first of a process
        parts = replace(training, batch_size=training.batch_size // ranks)
        checks: Any = validation
        numbers = range(rank, len(checks), ranks) if len(checks) >= ranks else None
        with _quiet_lightning(), torch_threads(optimisation.threads), WholeBatch() if ranks > 1 else nullcontext():
            trainer = Trainer(
                accelerator="gpu" if device.type == "cuda" else device.type,
                **lightning_arguments(ranks),
                precision=_LIGHTNING_PRECISION[precision],
                max_epochs=-(-steps // batches_an_epoch),
                callbacks=callbacks,
                gradient_clip_val=optimisation.gradient_clip if module.automatic_optimization else None,
                # A CPU is deterministic anyway; there the switch only makes torch fill all new memory.
                deterministic="warn" if device.type == "cuda" else None,
                benchmark=False,
                default_root_dir=run.workspace,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
            )
            trainer.fit(
                module,
                loader(parts, optimisation.workers, sampler),
                loader(checks, optimisation.workers, numbers),
                ckpt_path=None if state is None else str(last),
                weights_only=True,
            )
            trainer.strategy.barrier()  # until the last checkpoint is there
    states = _checkpoint(last)["callbacks"]
    for callback in extra_callbacks:
        callback.load_state_dict(states.get(callback.state_key, {}))  # most keep nothing
    done, history = states["Budget"], states["History"]["rows"]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    module.cpu().load_state_dict(_checkpoint(run.checkpoints / BEST_CHECKPOINT)["state_dict"])
    return TrainingRecord(
        recipe=recipe.model_dump(mode="json"),
        seed=optimisation.seed,
        epochs_run=len(history),
        best_epoch=states["KeepCheckpoints"]["best_epoch"],
        history=tuple(history),
        patches_version=run.store.data_version,
        splits_version=run.splits.data_version,
        fingerprint=fingerprint(recipe, run.store, run.splits, run.teacher),
        seconds=done["seconds"],
        device=f"{name}, {precision}" + (f", {optimisation.devices} ranks" if optimisation.devices > 1 else ""),
        steps_run=done["done"],
        stopped_by=done["stopped_by"],
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silences Lightning's advertisements and its advice on settings that are intended here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    known = (
        "does not have many workers|GPU available but not used|does not have a deterministic implementation|"
        "isinstance.treespec, LeafSpec|recommended to use `self.log|.broadcast_buffers. is deprecated"
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*({known})")
            yield
    finally:
        logger.setLevel(level)
