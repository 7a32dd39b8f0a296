"""Training of coverage classifiers."""

from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCohenKappa

from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.families.classification.batches import TrainingWindows, ValidationWindows, WindowSource
from cloud_assets.families.classification.coverage_labels import Windows, label_windows
from cloud_assets.families.classification.predictor import decide
from cloud_assets.families.classification.recipe import Classification, ClassificationSection
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.fit import TrainedModule
from cloud_assets.learning.session import Plan, require_masks, simulated_patches, train_model
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.classifiers import STAGES, ClassifierNetwork, class_probability, input_range, input_size
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import SPLITS
from cloud_assets.patches.statistics import band_positions, fitted_preprocessing

Batch = tuple[Tensor, Tensor, Tensor]  # images, classes and cover maps


class ClassificationModule(TrainedModule):
    """Loss, metrics and unfreezing of a classifier; ``class_weights`` is (K,), the weight of each class."""

    monitor: ClassVar[str] = "val_balanced_accuracy"
    mode: ClassVar[Literal["max", "min"]] = "max"

    def __init__(self, network: ClassifierNetwork, recipe: Classification, class_weights: Tensor) -> None:
        super().__init__(network, recipe.optimisation)
        classes = len(class_weights)
        self.recipe = recipe
        self.stages = network.stages()
        # Not a part of the network: only the training needs it.
        self.cover_head = nn.Conv2d(network.backbone.num_features, 1, 1) if recipe.loss.cover_map > 0 else None
        self.class_weights: Tensor
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.metrics = MetricCollection(
            {
                "val_accuracy": MulticlassAccuracy(classes, average="micro"),
                "val_balanced_accuracy": MulticlassAccuracy(classes, average="macro"),
                "val_kappa": MulticlassCohenKappa(classes, weights="quadratic"),
            }
        )

    def on_train_epoch_start(self) -> None:
        """Freezes and unfreezes the backbone's stages for this epoch."""
        frozen = self.recipe.unfreezing.frozen_stages(self.current_epoch, STAGES)
        still = {name for stage in self.stages[:frozen] for name in stage}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in still)
        for module in self.network.modules():
            # Statistics of frozen layers are frozen too: they belong to the weights.
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(any(parameter.requires_grad for parameter in module.parameters()))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        images, labels, covers = batch
        network: Any = self.network
        features = network.features(self.to_layout(images))
        loss = self._loss(self.together(network.head(features).float()), self.together(labels))
        if self.cover_head is not None:
            if features.ndim != 4:
                raise InvalidRecipe(f"cover_map needs a convolutional backbone, not {self.recipe.network.backbone}.")
            loss = loss + self.recipe.loss.cover_map * cover_loss(
                self.together(self.cover_head(features.float())), self.together(covers)
            )
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts a batch into the validation metrics."""
        images, labels, _ = batch
        logits = self.network(self.to_layout(images))
        head = self.recipe.network.head
        probability = class_probability(logits, head).cpu().numpy()
        self.metrics.update(torch.from_numpy(decide(probability, head)).to(labels.device), labels)
        self.log("val_loss", self._loss(logits, labels), on_epoch=True, sync_dist=True, batch_size=len(images))

    def on_validation_epoch_end(self) -> None:
        """Logs them."""
        # Kappa is not defined where all answers and labels are one class.
        self.log_dict({name: torch.nan_to_num(value) for name, value in self.metrics.compute().items()})
        self.metrics.reset()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        if self.recipe.network.head == "ordinal":
            return corn_loss(logits, labels, self.class_weights)
        smoothing = self.recipe.loss.label_smoothing
        return F.cross_entropy(logits, labels, weight=self.class_weights, label_smoothing=smoothing)


def corn_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Loss of ordered classes: at each boundary, of what lies above the one before, which lies above this one too?

    Shi, Cao & Raschka 2021, arXiv:2111.08851, eq. 4; ``logits`` (N, K - 1), ``labels`` (N,), ``class_weights`` (K,).
    """
    boundaries = torch.arange(logits.shape[1], device=logits.device)
    asked = (labels[:, None] >= boundaries).float() * class_weights[labels][:, None]
    above = (labels[:, None] > boundaries).float()
    return F.binary_cross_entropy_with_logits(logits, above, weight=asked, reduction="sum") / asked.sum()


def cover_loss(logits: Tensor, covers: Tensor) -> Tensor:
    """Binary cross entropy of the cloud cover of each cell; cells without labels take no part.

    ``logits`` are (N, 1, h, w), ``covers`` (N, 2, cells, cells) the shares of cloudy and of labelled pixels.
    """
    cloudy, labelled = F.adaptive_avg_pool2d(covers, (logits.shape[-2], logits.shape[-1])).unbind(dim=1)
    cover = (cloudy / labelled.clamp_min(1e-6)).clamp(0, 1)
    each = F.binary_cross_entropy_with_logits(logits[:, 0], cover, weight=labelled, reduction="sum")
    return each / labelled.sum().clamp_min(1e-6)


def train(recipe: Classification, run: TrainingRun) -> ModelBundle:
    """Trains a coverage classifier; see :func:`train_model`."""
    return train_model(recipe, run, _plan)


def _plan(recipe: Classification, run: TrainingRun) -> Plan:
    require_masks(run)
    optimisation = recipe.optimisation
    channels = band_positions(run.store.roles[IMAGES], recipe.bands)
    preprocessing = fitted_preprocessing(
        run.store,
        run.splits.indices("train"),
        bands=recipe.bands,
        normalisation=recipe.normalisation,
        clip=recipe.clip,
        scaled_to=input_range(recipe.network.backbone),
    )
    size = recipe.network.input_size or input_size(recipe.network.backbone)
    real = _windows(recipe, run, "train", recipe.training_windows)
    checked = _windows(recipe, run, "validation", recipe.validation_windows)
    simulated = None
    if recipe.simulated_fraction > 0:
        store = simulated_patches(
            run,
            preprocessing,
            recipe.simulation,
            size=recipe.simulated_size,
            count=recipe.simulated_patches,
            seed=optimisation.seed,
        )
        rows, count = np.arange(len(store)), 2 * len(store)
        windows = label_windows(store, rows, recipe.classes, count=count, scale=recipe.window_scale)
        simulated = WindowSource(store, windows, list(range(len(preprocessing.bands))))
    weights = _class_weights(recipe, run, real, None if simulated is None else simulated.windows)
    outputs = recipe.network.outputs(len(recipe.classes.names))
    network = recipe.network.build(len(channels), outputs)
    return Plan(
        module=ClassificationModule(network, recipe, weights),  # type: ignore[arg-type]
        training=TrainingWindows(
            WindowSource(run.store, real, channels),
            simulated,
            recipe.simulated_fraction,
            preprocessing,
            Augmenter(recipe.augmentation),
            recipe.classes,
            size=size,
            batch_size=optimisation.batch_size,
            minimum_valid=recipe.minimum_valid,
            seed=optimisation.seed,
        ),
        validation=ValidationWindows(
            WindowSource(run.store, checked, channels), preprocessing, size=size, batch_size=optimisation.batch_size
        ),
        samples=len(real),
        network=recipe.network,
        preprocessing=preprocessing,
        out_channels=outputs,
        patch_size=run.store.masks.shape[1],
        classes=recipe.classes.names,
        section=ClassificationSection(
            input_size=size, minimum_valid=recipe.minimum_valid, boundaries=recipe.classes.boundaries
        ),
    )


def _windows(recipe: Classification, run: TrainingRun, split: str, count: int) -> Windows:
    return label_windows(
        run.store,
        run.splits.indices(split),
        recipe.classes,
        count=count,
        scale=recipe.window_scale,
        minimum_valid=recipe.minimum_valid,
        # Not the recipe's seed: all variants, and all trials of a study, are judged on the same windows.
        seed=SPLITS.index(split),
    )


def _class_weights(recipe: Classification, run: TrainingRun, real: Windows, simulated: Windows | None) -> Tensor:
    """(K,) weights, 1 on average over the samples."""
    names = recipe.classes.names
    shares: npt.NDArray[np.float64] = (1 - recipe.simulated_fraction) * real.class_counts(len(names)) / len(real)
    if simulated is not None:
        shares = shares + recipe.simulated_fraction * simulated.class_counts(len(names)) / len(simulated)
    absent = [name for name, share in zip(recipe.classes.describe(), shares, strict=True) if share == 0]
    if absent:
        raise NoUsablePatches(
            f"{run.task}: no window of the training split is {' or '.join(absent)}. Add scenes with that cover, move "
            "the boundaries of the classes, widen window_scale, or mix in simulated patches."
        )
    balanced = 1 / (len(names) * shares) if recipe.loss.class_weights == "balanced" else np.ones(len(names))
    return torch.tensor(balanced, dtype=torch.float32)
