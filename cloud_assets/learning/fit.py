"""Fits the network of any family: one configuration of Lightning's trainer, resumable."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cloud_assets.inference.bundle import TrainingRecord
from cloud_assets.inference.device import choose_device, choose_precision, keep_freed_memory
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
from cloud_assets.learning.recipe import Optimisation, Recipe
from cloud_assets.learning.training_run import TrainingRun, fingerprint

_LIGHTNING_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


class TrainedModule(LightningModule):
    """Base class of the modules that :func:`fit` trains.

    Subclasses write ``training_step`` (returning the loss) and ``validation_step``, and log ``monitor`` there.
    """

    monitor: ClassVar[str] = "val_iou"
    """Validation metric by which the best epoch is chosen."""
    mode: ClassVar[Literal["max", "min"]] = "max"
    """Whether it should be large or small."""

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

    def to_layout(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in the memory layout of the recipe."""
        layout = torch.channels_last if self.optimisation.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)


def build_optimiser(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], optimisation: Optimisation
) -> torch.optim.Optimizer:
    """Makes the optimiser that a recipe names."""
    rate, decay = optimisation.learning_rate, optimisation.weight_decay
    betas = (optimisation.momentum, optimisation.beta2)
    match optimisation.optimiser:
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, betas=betas)
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, betas=betas)
        case "radam":
            return torch.optim.RAdam(parameters, lr=rate, weight_decay=decay, betas=betas)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=optimisation.momentum)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate, weight_decay=decay, momentum=optimisation.momentum)


def fit(
    module: TrainedModule,
    training: DataLoader[Any],
    validation: DataLoader[Any],
    recipe: Recipe,
    run: TrainingRun,
    extra_callbacks: Sequence[Callback] = (),
) -> TrainingRecord:
    """Trains until the last step, the time limit, or until validation no longer improves.

    A checkpoint is written each epoch to ``run.checkpoints``; if there is one already, training resumes from it, with
    the same batches, learning rate and patience as without the interruption. Afterwards the module holds the weights
    that were best on validation.

    Args:
        module: The family's module.
        training: Batches; a sampler with ``set_epoch`` makes them depend on the epoch only.
        validation: Batches.
        recipe: The recipe.
        run: Workspace and callbacks.
        extra_callbacks: Lightning callbacks of the family; their state is kept with the checkpoints.

    Raises:
        TrainingFailed: If the loss or the validation metric becomes infinite or not a number.
        InvalidRecipe: If the device or precision is not available.
    """
    optimisation = recipe.optimisation
    device = choose_device(optimisation.device)
    precision = choose_precision(optimisation.precision, device)
    keep_freed_memory()
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    steps = optimisation.total_steps(len(training))
    budget = Budget(f"{run.task}/{run.variant}", steps, optimisation.budget_minutes)
    history = History(run, budget)
    checkpoints = KeepCheckpoints(run.checkpoints, module.monitor, module.mode, budget)
    callbacks: list[Callback] = [
        budget,
        Reseed(optimisation.seed),
        DivergenceGuard(run.checkpoints, module.monitor),
        history,
        LearningRate(optimisation, budget, module.monitor, module.mode),
        checkpoints,
        *extra_callbacks,
    ]
    if (patience := optimisation.patience) is not None:
        callbacks.append(
            EarlyStopping(
                module.monitor, mode=module.mode, patience=patience, check_finite=False, check_on_train_epoch_end=True
            )
        )
    if optimisation.weight_averaging is not None:
        callbacks.append(MovingAverage(optimisation.weight_averaging))
    if run.progress:
        callbacks.append(ProgressBar(f"{run.task}/{run.variant}", budget))
    last = run.checkpoints / LAST_CHECKPOINT
    state = torch.load(last, map_location="cpu", weights_only=True) if last.exists() else None
    with _quiet_lightning(), torch_threads(optimisation.threads):
        if state is not None and state["callbacks"][budget.state_key]["stopped_by"]:
            for callback in (budget, history, checkpoints, *extra_callbacks):
                callback.load_state_dict(state["callbacks"].get(callback.state_key, {}))  # most keep nothing
            seconds = state["callbacks"][budget.state_key]["seconds"]
        else:
            if optimisation.channels_last:
                module.to(memory_format=torch.channels_last)
            clip = optimisation.gradient_clip if module.automatic_optimization else None
            trainer = Trainer(
                accelerator="gpu" if device.type == "cuda" else device.type,
                devices=1 if device.index is None or device.type == "cpu" else [device.index],
                precision=_LIGHTNING_PRECISION[precision],
                max_epochs=-(-steps // len(training)),
                callbacks=callbacks,
                gradient_clip_val=clip,
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
            if state is not None and hasattr(training.sampler, "set_epoch"):
                # The trainer does so for every epoch but the first of a process.
                training.sampler.set_epoch(int(state["epoch"]) + 1)
            resume = None if state is None else str(last)
            trainer.fit(module, training, validation, ckpt_path=resume, weights_only=True)
            seconds = budget.seconds
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    best = torch.load(run.checkpoints / BEST_CHECKPOINT, map_location="cpu", weights_only=True)
    module.cpu().load_state_dict(best["state_dict"])
    return TrainingRecord(
        recipe=recipe.model_dump(mode="json"),
        seed=optimisation.seed,
        epochs_run=len(history.rows),
        best_epoch=checkpoints.best_epoch,
        history=tuple(history.rows),
        patches_version=run.store.data_version,
        splits_version=run.splits.data_version,
        fingerprint=fingerprint(recipe, run.store, run.splits),
        seconds=seconds,
        device=f"{name}, {precision}",
        steps_run=budget.done,
        stopped_by=budget.stopped_by or "steps",
    )


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Sets the number of torch threads within a block; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silences Lightning's advertisements and its advice on settings that are intended here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    known = (
        "does not have many workers|GPU available but not used|does not have a deterministic implementation|"
        "isinstance.treespec, LeafSpec"
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*({known})")
            yield
    finally:
        logger.setLevel(level)
