"""Training of anomaly models on cloud-free pictures."""

import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from cloud_assets.bands import UNLABELLED
from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.anomaly.batches import Clouding, NormalBatches, NormalChecks, Pictures
from cloud_assets.families.anomaly.card_section import AnomalySection, LatentReference
from cloud_assets.families.anomaly.normal_split import ANOMALOUS, classes_of
from cloud_assets.families.anomaly.predictor import AnomalyPredictor
from cloud_assets.families.anomaly.recipe import AnomalyRecipe, Reconstruction, SyntheticAnomalies
from cloud_assets.families.anomaly.scores import UNITS, latent_reference, pooled
from cloud_assets.families.anomaly.threshold import choose_threshold
from cloud_assets.inference.bundle import ModelBundle, Threshold
from cloud_assets.learning.fit import TrainedModule
from cloud_assets.learning.focal_dice_loss import FocalDiceLoss
from cloud_assets.learning.session import Plan, require_rows, simulated_patches, train_model
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.statistics import band_positions, fitted_preprocessing
from cloud_assets.simulation.clouds import CLEAR_SKY

_CLASSES = ("normal", "anomalous")
_CLOUD_FIELDS = 48
_CHECKED_SHARE = 0.15
"""Share of the simulated cloud-free pictures that is kept for validation."""


class ReconstructionModule(TrainedModule):
    """Mean square error of the reconstruction over valid pixels."""

    monitor: ClassVar[str] = "val_loss"
    mode: ClassVar[Literal["max", "min"]] = "min"

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return self._logged("train_loss", batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs the loss of a batch."""
        self._logged("val_loss", batch)

    def _logged(self, name: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = self.loss(*batch)
        self.log(name, loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def loss(self, images: Tensor, target: Tensor) -> Tensor:
        """Mean square error.

        Args:
            images: (N, C, H, W).
            target: (N, H, W), 255 without data.
        """
        valid = (target != UNLABELLED).unsqueeze(1)
        images = self.to_layout(images)
        squares = F.mse_loss(self.network(images).float(), images, reduction="none")
        return (squares * valid).sum() / (valid.sum() * images.shape[1]).clamp_min(1)


class DiscriminationModule(ReconstructionModule):
    """Tells synthetic clouds from untouched pixels."""

    def __init__(self, network: nn.Module, recipe: SyntheticAnomalies) -> None:
        super().__init__(network, recipe.optimisation)
        self.criterion = FocalDiceLoss(recipe.loss, classes=2)

    def loss(self, images: Tensor, target: Tensor) -> Tensor:
        """Focal and Dice loss.

        Args:
            images: (N, C, H, W).
            target: (N, H, W): 1 cloud, 0 none, 255 without data.
        """
        loss: Tensor = self.criterion(self.network(self.to_layout(images)), target.long())
        return loss


@dataclass(frozen=True)
class _Normals:
    """The pictures to learn from and to validate on."""

    training: Pictures
    validation: Pictures
    preprocessing: Preprocessing


def train(recipe: AnomalyRecipe, run: TrainingRun) -> ModelBundle:
    """Trains an anomaly model on cloud-free pictures and chooses its threshold; see :func:`train_model`."""
    if isinstance(recipe, Reconstruction):
        return train_model(recipe, run, _reconstruction)
    if isinstance(recipe, SyntheticAnomalies):
        return train_model(recipe, run, _discrimination)
    raise InvalidRecipe(f"{run.task}: {type(recipe).__name__} is no recipe of an anomaly model.")


def _reconstruction(recipe: Reconstruction, run: TrainingRun) -> Plan:
    normals = _normals(recipe, run)
    channels, multiple = len(normals.training.channels), recipe.network.size_multiple
    size = run.store.roles[IMAGES].shape[1]
    section = AnomalySection(score=recipe.score, input_size=size, latent=LatentReference())
    return Plan(
        module=ReconstructionModule(recipe.network.build(channels, channels), recipe.optimisation),
        training=NormalBatches(
            normals.training,
            None,
            0.0,
            None,
            normals.preprocessing,
            Augmenter(recipe.augmentation),
            batch_size=recipe.optimisation.batch_size,
            crop=None,
            multiple=multiple,
            seed=recipe.optimisation.seed,
        ),
        validation=NormalChecks([normals.validation], None, normals.preprocessing, multiple=multiple),
        samples=len(normals.training),
        network=recipe.network,
        preprocessing=normals.preprocessing,
        out_channels=channels,
        patch_size=size,
        classes=_CLASSES,
        section=section,
        finish=partial(_finished, recipe, run, section, normals.training),
    )


def _discrimination(recipe: SyntheticAnomalies, run: TrainingRun) -> Plan:
    normals = _normals(recipe, run)
    seed, multiple = recipe.optimisation.seed, recipe.network.size_multiple
    training, validation = (
        replace(pictures, size=recipe.picture_size) for pictures in (normals.training, normals.validation)
    )
    preprocessing = normals.preprocessing
    size = run.store.roles[IMAGES].shape[1]
    side = min(size, recipe.picture_size or sys.maxsize)
    simulated: list[Pictures] = []
    if recipe.simulated_fraction > 0:
        store = simulated_patches(
            run,
            preprocessing,
            recipe.simulation.model_copy(update={"clouds": CLEAR_SKY}),
            size=min(side, recipe.crop or side),
            count=recipe.simulated_normals,
            seed=seed,
        )
        first = round(len(store) * (1 - _CHECKED_SHARE))
        every = list(range(len(preprocessing.bands)))
        simulated = [Pictures(store, rows, every) for rows in np.split(np.arange(len(store)), [first])]
    compositor = CloudCompositor(
        preprocessing.instrument, preprocessing.bands, recipe.clouds, fields=_CLOUD_FIELDS, size=side, seed=seed
    )
    clouding = Clouding(compositor, recipe.clouded_fraction)
    section = AnomalySection(score="cloud_likeness", top_share=recipe.top_share, input_size=side)
    return Plan(
        module=DiscriminationModule(recipe.network.build(len(training.channels), 1), recipe),
        training=NormalBatches(
            training,
            simulated[0] if simulated else None,
            recipe.simulated_fraction,
            clouding,
            preprocessing,
            Augmenter(recipe.augmentation),
            batch_size=recipe.optimisation.batch_size,
            crop=recipe.crop,
            multiple=multiple,
            seed=seed,
        ),
        validation=NormalChecks([validation, *simulated[1:]], clouding, preprocessing, multiple=multiple),
        samples=len(training),
        network=recipe.network,
        preprocessing=preprocessing,
        out_channels=1,
        patch_size=size,
        classes=_CLASSES,
        section=section,
        finish=partial(_finished, recipe, run, section, None),
    )


def _normals(recipe: AnomalyRecipe, run: TrainingRun) -> _Normals:
    store, splits = run.store, run.splits
    channels = band_positions(store.roles[IMAGES], recipe.bands)
    chosen = {}
    for split in ("train", "validation"):
        rows = splits.indices(split)
        if split == "validation":  # where a threshold by F1 may need anomalies
            rows = rows[classes_of(splits, rows) != ANOMALOUS]
        _refuse_clouds(run, rows)
        require_rows(run, split, rows, "is a normal picture")
        chosen[split] = Pictures(store, rows, channels)
    preprocessing = fitted_preprocessing(store, chosen["train"].indices, bands=recipe.bands, clip=recipe.clip)
    return _Normals(chosen["train"], chosen["validation"], preprocessing)


def _refuse_clouds(run: TrainingRun, rows: npt.NDArray[np.int64]) -> None:
    """Checks the classes of the splits and, independently, masks and labels of the store."""
    index = run.store.index.iloc[rows]
    cloudy = (classes_of(run.splits, rows) != NORMAL) | (index["cloud_percentage"].fillna(0) > 0).to_numpy()
    cloudy |= (index["label"] == ANOMALOUS).to_numpy()
    if cloudy.any():
        named = ", ".join(index["patch_id"].to_numpy()[cloudy][:5])
        raise InvalidRecipe(
            f"{run.task}: {int(cloudy.sum())} pictures that are not cloud-free would be trained on, for example "
            f"{named}. Make the splits with NormalSplit, which keeps them for the test."
        )


def _finished(
    recipe: AnomalyRecipe,
    run: TrainingRun,
    section: AnomalySection,
    reference: Pictures | None,
    bundle: ModelBundle,
) -> ModelBundle:
    """The bundle with the usual latent codes of the reference pictures, if any, and with its threshold."""
    device = recipe.optimisation.device
    if reference is not None:
        predictor = AnomalyPredictor(bundle, device)
        codes = [pooled(*predictor.latent(reference.read(place)[None])) for place in range(len(reference))]
        section = section.model_copy(update={"latent": latent_reference(torch.cat(codes))})
        bundle = bundle.with_card(details=section.details())
    threshold = _threshold(recipe, run, AnomalyPredictor(bundle, device))
    if recipe.threshold.method in ("quantile", "mad"):
        section = section.model_copy(update={"promised_false_alarm_rate": recipe.threshold.false_alarm_rate})
    return bundle.with_card(threshold=threshold, details=section.details())


def _threshold(recipe: AnomalyRecipe, run: TrainingRun, predictor: AnomalyPredictor) -> Threshold:
    """Chooses the threshold with the predictor that evaluation and serving use."""
    rows = run.splits.indices("validation")
    is_anomalous = classes_of(run.splits, rows) == ANOMALOUS
    channels = band_positions(run.store.roles[IMAGES], recipe.bands)
    scores = np.array(
        [
            predictor.predict(run.store.array()[row : row + 1][:, channels])["score"][0]
            for row in tqdm(rows, desc="choosing the threshold", unit="picture", disable=not run.progress)
        ],
        np.float64,
    )
    there = np.isfinite(scores)
    return choose_threshold(
        recipe.threshold, scores[there & ~is_anomalous], scores[there & is_anomalous], UNITS[predictor.score].unit
    )
