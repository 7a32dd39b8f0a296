"""Optimisers and learning rate schedules."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cloud_assets.learning.optimisation import Optimisation

if TYPE_CHECKING:
    from cloud_assets.learning.callbacks import Budget

_RISE = 0.3
"""Share of a one-cycle training in which the rate rises (Smith & Topin 2017, arXiv:1708.07120)."""


def build_optimiser(
    parameters: "Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]]", optimisation: Optimisation
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


def rate_factor(optimisation: Optimisation, progress: float) -> float:
    """What the learning rate is multiplied by.

    Args:
        optimisation: The recipe.
        progress: Share of the training that is over, 0…1.

    Returns:
        0…1; always 1 for ``constant`` and for ``plateau``, which goes by the validation metric instead.
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
    any machine.

    Args:
        optimisation: The recipe.
        budget: Counts the steps.
        monitor: Validation metric that ``plateau`` follows.
        mode: Whether it should be largest (``max``) or smallest (``min``).
    """

    def __init__(self, optimisation: Optimisation, budget: "Budget", monitor: str, mode: str) -> None:
        self._optimisation = optimisation
        self._budget = budget
        self._monitor = monitor
        self._mode = mode
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
        mode: Any = self._mode
        self._plateaus = [
            ReduceLROnPlateau(optimiser, mode, factor=factor, patience=patience, eps=0)
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
        plain = (int, float, str, bool)
        return {
            "plateaus": [
                {name: value for name, value in plateau.state_dict().items() if isinstance(value, plain)}
                for plateau in self._plateaus
            ]
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Keeps the state until the optimisers exist."""
        self._restored = list(state_dict["plateaus"])
