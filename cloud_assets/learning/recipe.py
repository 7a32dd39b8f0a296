"""Recipes that models are trained by, and the settings that several families share; torch-free."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from cloud_assets.inference.device import DeviceName, Precision


class Optimisation(BaseModel, frozen=True, extra="forbid"):
    """How weights are fitted: shared by all tasks."""

    steps: int | None = Field(
        default=None,
        ge=1,
        description="Steps (batches) of the whole training; its end and the learning rate follow them, or max_epochs "
        "where those are fewer. Unset: those of max_epochs.",
    )
    max_epochs: int = Field(default=50, ge=1, description="Most epochs to train.")
    steps_per_epoch: int | None = Field(
        None, ge=1, description="Batches an epoch. Unset: one pass over the training patches, at least 50 batches."
    )
    budget_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Time limit. A training that reaches it ends early, as log, card and report then state; the "
        "learning rate does not depend on it. Unset: none.",
    )
    batch_size: int = Field(default=8, ge=1, description="Patches a batch.")
    optimiser: Literal["adamw", "adam", "radam", "sgd", "rmsprop"] = Field(default="adamw", description="Optimiser.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Largest learning rate.")
    weight_decay: float = Field(default=1e-2, ge=0, description="Weight decay.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd and rmsprop; beta 1 of the others.")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Beta 2 of adam, adamw and radam.")
    scheduler: Literal["plateau", "linear", "cosine", "one_cycle", "constant"] = Field(
        default="plateau",
        description="'plateau' lowers the learning rate when the validation metric stalls; 'linear' and 'cosine' lower "
        "it to nearly zero by the last step; 'one_cycle' rises first.",
    )
    decay_start: float = Field(
        0.0, ge=0, lt=1, description="Share of the training before 'linear' or 'cosine' begin to lower the rate."
    )
    plateau_factor: float = Field(default=0.5, gt=0, lt=1, description="What 'plateau' multiplies the rate by.")
    plateau_patience: int = Field(default=2, ge=0, description="Epochs without progress before 'plateau' acts.")
    patience: int | None = Field(
        default=5, ge=1, description="Epochs without progress on validation before training stops. Unset: never."
    )
    gradient_clip: float | None = Field(default=1.0, gt=0, description="Largest norm of the gradient. Unset: no limit.")
    weight_averaging: float | None = Field(
        None, gt=0, lt=1, description="Decay per step of an exponential moving average of the weights, e.g. 0.995."
    )
    precision: Precision = Field("auto", description="Arithmetic; 'auto' takes bf16 where the processor is fast at it.")
    channels_last: bool = Field(True, description="Memory layout; faster for convolutions, not for InstanceNorm.")
    device: DeviceName = Field(default="auto", description="'auto' takes an NVIDIA GPU if there is one.")
    devices: int = Field(
        default=1,
        ge=1,
        description="GPUs of this machine, processes on its CPU, or workers of a Ray cluster that share each batch. "
        "The result does not depend on it beyond rounding, so it is no part of what identifies a training.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the weights, the batches and the augmentation.")
    workers: int = Field(0, ge=0, description="Data loading processes; 0: the main one, best on one or two cores.")
    threads: int | None = Field(default=None, ge=1, description="Threads of torch. Unset: torch decides; one a rank.")

    def total_steps(self, batches_an_epoch: int) -> int:
        """Steps of the whole training."""
        epochs = self.max_epochs * batches_an_epoch
        return epochs if self.steps is None else min(self.steps, epochs)


class FocalDice(BaseModel, frozen=True, extra="forbid"):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002) plus Dice loss; unlabelled pixels take no part."""

    focal: float = Field(default=0.25, ge=0, le=1, description="Share of the focal loss; the Dice loss has the rest.")
    gamma: float = Field(default=2.0, ge=0, description="How strongly easy pixels are played down.")
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="Weight of each class, in the order of the classes. Unset: all the same."
    )


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How a variant is trained: plain data, torch-free; the family that it names trains by it.

    Each recipe declares a field ``optimisation``. It is no field of this class, for those come first in a model's JSON,
    whose order is part of a training's fingerprint.
    """

    family: ClassVar[str]  # key in :data:`cloud_assets.families.FAMILIES`

    if TYPE_CHECKING:
        optimisation: Optimisation

    @property
    def learns_from(self) -> str | None:
        """A model that the network learns from beside the labels: a variant of the task, or what the family opens."""
        return None
