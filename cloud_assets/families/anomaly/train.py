"""Training of anomaly models on cloud-free pictures."""

import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cloud_assets.bands import UNLABELLED
from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.families.anomaly.batches import Clouding, NormalBatches, NormalChecks, Pictures
from cloud_assets.families.anomaly.card_section import AnomalySection, LatentReference
from cloud_assets.families.anomaly.predictor import AnomalyPredictor
from cloud_assets.families.anomaly.recipe import AnomalyRecipe, Reconstruction, SyntheticAnomalies
from cloud_assets.families.anomaly.scores import UNITS, latent_reference, pooled
from cloud_assets.families.anomaly.threshold import choose_threshold
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.card import ModelCard
from cloud_assets.learning.fit import TrainedModule, fit
from cloud_assets.learning.focal_dice_loss import FocalDiceLoss
from cloud_assets.learning.numbered_batches import training_loader, validation_loader
from cloud_assets.learning.provenance import software_versions, training_record
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.normal_split import ANOMALOUS, NORMAL, classes_of
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.statistics import band_positions, fitted_preprocessing
from cloud_assets.simulation.clouds import CLEAR_SKY

_FEWEST_BATCHES = 20
"""Batches an epoch at least: with fewer, validation would cost more than training."""
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
    """Tells synthetic clouds from untouched pixels.

    Args:
        network: Pictures -> one logit a pixel.
        recipe: The recipe.
    """

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
    """The pictures to learn from and to check on."""

    training: Pictures
    validation: Pictures
    preprocessing: Preprocessing


@dataclass(frozen=True)
class _Plan:
    """What the two kinds of recipes differ in."""

    module: ReconstructionModule
    batches: NormalBatches
    checks: NormalChecks
    out_channels: int
    section: AnomalySection


def train(recipe: AnomalyRecipe, run: TrainingRun) -> ModelBundle:
    """Trains an anomaly model; see :meth:`Family.train`."""
    normals = _normals(recipe, run)
    optimisation = recipe.optimisation
    torch.manual_seed(optimisation.seed)
    plan = _PLANS[type(recipe)](recipe, run, normals)
    one_pass = -(-len(normals.training) // optimisation.batch_size)
    steps = optimisation.steps_per_epoch or max(one_pass, _FEWEST_BATCHES)
    training: DataLoader[Any] = training_loader(plan.batches, steps, optimisation.workers)
    result = fit(
        plan.module,
        training,
        validation_loader(plan.checks, optimisation.workers),
        optimisation,
        run,
    )
    best = result.history[result.best_epoch]
    card = ModelCard(
        task=run.task,
        variant=run.variant,
        family=recipe.family,
        network=recipe.network,  # type: ignore[attr-defined]
        in_channels=len(normals.training.channels),
        out_channels=plan.out_channels,
        preprocessing=normals.preprocessing,
        classes=("normal", "anomalous"),
        patch_size=run.store.roles[IMAGES].shape[1],
        training=training_record(recipe, optimisation.seed, run, result),
        metrics={name: value for name, value in best.items() if name.startswith("val_")},
        software=software_versions(),
        details=plan.section.details(),
        is_synthetic_training_data=run.store.is_synthetic,
    )
    bundle = ModelBundle(card, plan.module.network.state_dict())
    section = plan.section
    if section.latent is not None:
        section = section.model_copy(update={"latent": _latent_reference(bundle, normals, optimisation)})
        bundle = bundle.with_card(details=section.details())
    return _with_threshold(recipe, bundle, section, run)


def _plan_reconstruction(recipe: Reconstruction, run: TrainingRun, normals: _Normals) -> _Plan:
    channels, multiple = len(normals.training.channels), recipe.network.size_multiple
    batches = NormalBatches(
        normals.training,
        None,
        0.0,
        None,
        normals.preprocessing,
        recipe.augmentation.build(),
        batch_size=recipe.optimisation.batch_size,
        crop=None,
        multiple=multiple,
        seed=recipe.optimisation.seed,
    )
    checks = NormalChecks([normals.validation], None, normals.preprocessing, multiple=multiple)
    module = ReconstructionModule(recipe.network.build(channels, channels), recipe.optimisation)
    size = run.store.roles[IMAGES].shape[1]
    section = AnomalySection(score=recipe.score, input_size=size, latent=LatentReference())
    return _Plan(module, batches, checks, channels, section)


def _plan_discrimination(recipe: SyntheticAnomalies, run: TrainingRun, normals: _Normals) -> _Plan:
    seed, multiple = recipe.optimisation.seed, recipe.network.size_multiple
    side = min(run.store.roles[IMAGES].shape[1], recipe.picture_size or sys.maxsize)
    normals = replace(
        normals,
        training=replace(normals.training, size=recipe.picture_size),
        validation=replace(normals.validation, size=recipe.picture_size),
    )
    preprocessing = normals.preprocessing
    cloudless = recipe.simulation.model_copy(update={"clouds": CLEAR_SKY})
    simulated: list[Pictures] = []
    if recipe.simulated_fraction > 0:
        store = simulated_store(
            run.cache or run.workspace / "simulated",
            instrument=preprocessing.instrument,
            bands=preprocessing.bands,
            size=min(side, recipe.crop or side),
            count=recipe.simulated_normals,
            seed=seed,
            recipe=cloudless,
            progress=run.progress,
        )
        first = round(len(store) * (1 - _CHECKED_SHARE))
        every = list(range(len(preprocessing.bands)))
        simulated = [Pictures(store, rows, every) for rows in np.split(np.arange(len(store)), [first])]
    compositor = CloudCompositor(
        preprocessing.instrument, preprocessing.bands, recipe.clouds, fields=_CLOUD_FIELDS, size=side, seed=seed
    )
    clouding = Clouding(compositor, recipe.clouded_fraction)
    batches = NormalBatches(
        normals.training,
        simulated[0] if simulated else None,
        recipe.simulated_fraction,
        clouding,
        preprocessing,
        recipe.augmentation.build(),
        batch_size=recipe.optimisation.batch_size,
        crop=recipe.crop,
        multiple=multiple,
        seed=seed,
    )
    checks = NormalChecks([normals.validation, *simulated[1:]], clouding, preprocessing, multiple=multiple)
    module = DiscriminationModule(recipe.network.build(len(normals.training.channels), 1), recipe)
    section = AnomalySection(score="cloud_likeness", top_share=recipe.top_share, input_size=side)
    return _Plan(module, batches, checks, 1, section)


_PLANS: dict[type[AnomalyRecipe], Any] = {
    Reconstruction: _plan_reconstruction,
    SyntheticAnomalies: _plan_discrimination,
}


def _normals(recipe: AnomalyRecipe, run: TrainingRun) -> _Normals:
    store, splits = run.store, run.splits
    channels = band_positions(store.roles[IMAGES], recipe.bands)
    chosen = {}
    for split in ("train", "validation"):
        rows = splits.indices(split)
        if split == "validation":  # where a threshold by F1 may need anomalies
            rows = rows[classes_of(splits, rows) != ANOMALOUS]
        _refuse_clouds(run, rows)
        if not len(rows):
            raise NoUsablePatches(f"{run.task}: the {split} split holds no normal picture. Look at the splits.")
        chosen[split] = Pictures(store, rows, channels)
    preprocessing = fitted_preprocessing(store, chosen["train"].indices, bands=recipe.bands, clip=recipe.clip)
    return _Normals(chosen["train"], chosen["validation"], preprocessing)


def _refuse_clouds(run: TrainingRun, rows: npt.NDArray[np.int64]) -> None:
    """Looks at the splits' classes and, independently, at what masks and labels of the store itself say."""
    index = run.store.index.iloc[rows]
    cloudy = (classes_of(run.splits, rows) != NORMAL) | (index["cloud_percentage"].fillna(0) > 0).to_numpy()
    cloudy |= (index["label"] == ANOMALOUS).to_numpy()
    if cloudy.any():
        named = ", ".join(index["patch_id"].to_numpy()[cloudy][:5])
        raise InvalidRecipe(
            f"{run.task}: {int(cloudy.sum())} pictures that are not cloud-free would be trained on, for example "
            f"{named}. Make the splits with NormalSplit, which keeps them for the test."
        )


def _latent_reference(bundle: ModelBundle, normals: _Normals, optimisation: Any) -> LatentReference:
    predictor = AnomalyPredictor(bundle, optimisation.device)
    pictures = normals.training
    codes = [pooled(*predictor.latent(pictures.read(place)[None])) for place in range(len(pictures))]
    return latent_reference(torch.cat(codes))


def _with_threshold(
    recipe: AnomalyRecipe, bundle: ModelBundle, section: AnomalySection, run: TrainingRun
) -> ModelBundle:
    """Chooses the threshold with the very predictor that evaluation and serving use."""
    predictor = AnomalyPredictor(bundle, recipe.optimisation.device)
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
    threshold = choose_threshold(
        recipe.threshold, scores[there & ~is_anomalous], scores[there & is_anomalous], UNITS[predictor.score].unit
    )
    if recipe.threshold.method in ("quantile", "mad"):
        section = section.model_copy(update={"promised_false_alarm_rate": recipe.threshold.false_alarm_rate})
    return bundle.with_card(threshold=threshold, details=section.details())
