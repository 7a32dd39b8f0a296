"""Training of anomaly models on cloud-free pictures, and the choice of their threshold."""

import math
import sys
from functools import partial
from typing import ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch import Tensor, nn

from cloud_assets.bands import UNLABELLED
from cloud_assets.datasets.image_folders import NORMAL
from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.families.anomaly.batches import NormalBatches, NormalChecks, Pictures
from cloud_assets.families.anomaly.metrics import Scores, robust_deviation, score_patches
from cloud_assets.families.anomaly.normal_split import ANOMALOUS, classes_of
from cloud_assets.families.anomaly.predictor import AnomalyPredictor
from cloud_assets.families.anomaly.recipe import (
    AnomalyRecipe,
    AnomalySection,
    LatentReference,
    Reconstruction,
    SyntheticAnomalies,
    ThresholdRule,
    WhiteSmoothness,
)
from cloud_assets.families.anomaly.scores import UNITS, latent_reference, pooled
from cloud_assets.inference.bundle import ModelBundle, Threshold
from cloud_assets.learning.fit import TrainedModule
from cloud_assets.learning.focal_dice_loss import FocalDiceLoss
from cloud_assets.learning.session import Plan, require_rows, simulated_patches, train_model
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.likeness import LikenessNetwork
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.compositor import CloudCompositor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.statistics import band_positions, fitted_preprocessing
from cloud_assets.simulation.clouds import CLEAR_SKY

_CLOUD_FIELDS = 48
_CHECKED_SHARE = 0.15  # share of the simulated cloud-free pictures that is kept for validation


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
        loss, count, is_validation = self.loss(*batch), len(batch[0]), not self.training
        self.log(name, loss.detach(), on_step=False, on_epoch=True, sync_dist=is_validation, batch_size=count)
        return loss

    def loss(self, images: Tensor, target: Tensor) -> Tensor:
        """Mean square error of images (N, C, H, W); ``target`` is (N, H, W), 255 without data."""
        valid = (target != UNLABELLED).unsqueeze(1)
        images = self.to_layout(images)
        squares = F.mse_loss(self.network(images).float(), images, reduction="none")
        total, count = (self.together(part.sum()[None]).sum() for part in (squares * valid, valid))
        return total / (count * images.shape[1]).clamp_min(1)


class DiscriminationModule(ReconstructionModule):
    """Tells synthetic clouds from untouched pixels."""

    def __init__(self, network: nn.Module, recipe: SyntheticAnomalies) -> None:
        super().__init__(network, recipe.optimisation)
        self.criterion = FocalDiceLoss(recipe.loss, classes=2)

    def loss(self, images: Tensor, target: Tensor) -> Tensor:
        """Focal and Dice loss of images (N, C, H, W); ``target`` (N, H, W): 1 cloud, 0 none, 255 without data."""
        logits = self.network(self.to_layout(images))
        loss: Tensor = self.criterion(self.together(logits.float()), self.together(target.long()))
        return loss


class LikenessModule(ReconstructionModule):
    """Centre and mean deviation of the numbers by maximum likelihood under Laplace's distribution."""

    def loss(self, images: Tensor, target: Tensor) -> Tensor:
        """Negative logarithm of the likelihood of the pictures that show anything."""
        network = cast("LikenessNetwork", self.network)
        found = network.measure(images)
        cost = (found.numbers - network.centre).abs() * (-network.log_deviation).exp() + network.log_deviation
        seen = self.together((~found.is_even).float())[:, None]
        return (self.together(cost) * seen).sum() / seen.sum().clamp_min(1)


def train(recipe: AnomalyRecipe, run: TrainingRun) -> ModelBundle:
    """Trains an anomaly model on cloud-free pictures and chooses its threshold; see :func:`train_model`."""
    return train_model(recipe, run, _plan)


def _plan(recipe: AnomalyRecipe, run: TrainingRun) -> Plan:
    role, seed = run.store.roles[IMAGES], recipe.optimisation.seed
    channels, size = band_positions(role, recipe.bands), role.shape[1]
    picture_size = recipe.picture_size if isinstance(recipe, SyntheticAnomalies | WhiteSmoothness) else None
    training, validation = (
        Pictures(run.store, _normal_rows(run, split), channels, picture_size) for split in ("train", "validation")
    )
    preprocessing = fitted_preprocessing(
        run.store,
        training.indices,
        bands=recipe.bands,
        clip=recipe.clip,
        normalisation="patch_standardise" if isinstance(recipe, WhiteSmoothness) else "range",
    )
    simulated: list[Pictures] = []
    fraction = clouded_fraction = 0.0
    compositor = crop = None
    module: TrainedModule
    if isinstance(recipe, Reconstruction):
        outputs = len(channels)
        section = AnomalySection(score=recipe.score, input_size=size, latent=LatentReference())
        module = ReconstructionModule(recipe.network.build(len(channels), outputs), recipe.optimisation)
    elif isinstance(recipe, SyntheticAnomalies):
        outputs, crop, fraction, clouded_fraction = 1, recipe.crop, recipe.simulated_fraction, recipe.clouded_fraction
        side = min(size, picture_size or sys.maxsize)
        if fraction > 0:
            store = simulated_patches(
                run,
                preprocessing,
                recipe.simulation.model_copy(update={"clouds": CLEAR_SKY}),
                size=min(side, crop or side),
                count=recipe.simulated_normals,
                seed=seed,
            )
            parts = np.split(np.arange(len(store)), [round(len(store) * (1 - _CHECKED_SHARE))])
            simulated = [Pictures(store, rows, range(len(channels))) for rows in parts]
        compositor = CloudCompositor(
            preprocessing.instrument, preprocessing.bands, recipe.clouds, fields=_CLOUD_FIELDS, size=side, seed=seed
        )
        section = AnomalySection(score="cloud_likeness", top_share=recipe.top_share, input_size=side)
        module = DiscriminationModule(recipe.network.build(len(channels), outputs), recipe)
    elif isinstance(recipe, WhiteSmoothness):
        outputs = 2
        section = AnomalySection(score="white_smoothness", input_size=min(size, recipe.picture_size))
        module = LikenessModule(recipe.network.build(len(channels), outputs), recipe.optimisation)
    else:
        raise InvalidRecipe(f"{run.task}: {type(recipe).__name__} is no recipe of an anomaly model: give one.")
    multiple = recipe.network.size_multiple
    return Plan(
        module=module,
        training=NormalBatches(
            training,
            simulated[0] if simulated else None,
            fraction,
            compositor,
            clouded_fraction,
            preprocessing,
            Augmenter(recipe.augmentation),
            batch_size=recipe.optimisation.batch_size,
            crop=crop,
            multiple=multiple,
            seed=seed,
        ),
        validation=NormalChecks([validation, *simulated[1:]], compositor, preprocessing, multiple=multiple),
        samples=len(training),
        network=recipe.network,
        preprocessing=preprocessing,
        out_channels=outputs,
        patch_size=size,
        classes=("normal", "anomalous"),
        section=section,
        finish=partial(_finished, recipe, run, section, training),
    )


def _normal_rows(run: TrainingRun, split: str) -> npt.NDArray[np.int64]:
    """Normal pictures of a split, by its classes and, independently, by masks and labels of the store."""
    rows = run.splits.indices(split)
    if split == "validation":  # where a threshold by F1 may need anomalies
        rows = rows[classes_of(run.splits, rows) != ANOMALOUS]
    index = run.store.index.iloc[rows]
    cloudy = (classes_of(run.splits, rows) != NORMAL) | (index["cloud_percentage"].fillna(0) > 0).to_numpy()
    cloudy |= (index["label"] == ANOMALOUS).to_numpy()
    if cloudy.any():
        named = ", ".join(index["patch_id"].to_numpy()[cloudy][:5])
        raise InvalidRecipe(
            f"{run.task}: {int(cloudy.sum())} pictures that are not cloud-free would be trained on, for example "
            f"{named}. Make the splits with NormalSplit, which keeps them for the test."
        )
    require_rows(run, split, rows, "is a normal picture")
    return rows


def _finished(
    recipe: AnomalyRecipe, run: TrainingRun, section: AnomalySection, training: Pictures, bundle: ModelBundle
) -> ModelBundle:
    """The bundle with the latent codes that are usual in training, of an autoencoder, and with its threshold."""
    device = recipe.optimisation.device
    if section.latent is not None:
        predictor = AnomalyPredictor(bundle, device)
        codes = [pooled(*predictor.latent(training.read(place)[None])) for place in range(len(training))]
        section = section.model_copy(update={"latent": latent_reference(torch.cat(codes))})
        bundle = bundle.with_card(details=section.details())
    predictor = AnomalyPredictor(bundle, device)
    rows = run.splits.indices("validation")
    is_anomalous = classes_of(run.splits, rows) == ANOMALOUS
    scores = score_patches(predictor, run.store, rows, "choosing the threshold", run.progress)["score"]
    there = np.isfinite(scores)
    threshold = choose_threshold(
        recipe.threshold, scores[there & ~is_anomalous], scores[there & is_anomalous], UNITS[section.score]
    )
    if recipe.threshold.method in ("quantile", "mad"):
        section = section.model_copy(update={"promised_false_alarm_rate": recipe.threshold.false_alarm_rate})
    return bundle.with_card(threshold=threshold, details=section.details())


def choose_threshold(rule: ThresholdRule, normal: Scores, anomalous: Scores, unit: str) -> Threshold:
    """Chooses the score from which on a picture is called anomalous.

    ``normal`` (N,) are scores of validation normals, ``anomalous`` (M,) those of labelled validation anomalies, empty
    unless the splits allow any there, in a ``unit``.

    Raises:
        NoUsablePatches: If there is no normal score.
        InvalidRecipe: If F1 is asked for without labelled anomalies.
    """
    if rule.method == "fixed" and rule.value is not None:
        return Threshold(value=rule.value, method="fixed by the recipe", unit=unit)
    if not len(normal):
        raise NoUsablePatches("no validation picture has a score, so no threshold can be chosen. Look at the splits.")
    if rule.method == "f1":
        method = f"best F1 on {len(normal)} normal and {len(anomalous)} anomalous validation pictures"
        return Threshold(value=_best_f1(normal, anomalous), method=method, unit=unit)
    promise = f"at most {rule.false_alarm_rate:.0%} false alarms promised"
    rank = conformal_rank(len(normal), rule.false_alarm_rate)
    if rule.method == "quantile" and rank <= len(normal):
        method = f"rank {rank} of {len(normal)} validation normals, {promise}"
        # Scores at the threshold are anomalous, the score of that rank itself is not.
        return Threshold(value=float(np.nextafter(np.sort(normal)[rank - 1], np.inf)), method=method, unit=unit)
    few = "; too few for the quantile" if rule.method == "quantile" else ""
    method = f"median and median absolute deviation of {len(normal)} validation normals{few}, {promise}"
    median = float(np.median(normal))
    # One picture alone has no deviation; half its score on top is better than calling every other picture anomalous.
    deviation = robust_deviation(normal) or 0.5 * abs(median) or 1e-6
    value = median + float(norm.isf(rule.false_alarm_rate)) * deviation
    return Threshold(value=value, method=method, unit=unit)


def conformal_rank(count: int, rate: float) -> int:
    """Rank (from 1) of the score that a new, exchangeable one exceeds with at most some probability.

    Vovk et al. 2005, Algorithmic Learning in a Random World; more than ``count`` if ``count`` is too small for it.
    """
    return math.ceil((count + 1) * (1 - rate) - 1e-9)


def _best_f1(normal: Scores, anomalous: Scores) -> float:
    if not len(anomalous):
        raise InvalidRecipe(
            "threshold method 'f1' needs labelled anomalies in the validation split: set the split's anomalies_in to "
            "[validation, test], or use 'quantile' or 'mad', which need normal pictures only."
        )
    candidates = np.unique(np.concatenate([normal, anomalous]))
    found = (anomalous[:, None] >= candidates).sum(axis=0)
    false = (normal[:, None] >= candidates).sum(axis=0)
    f1 = 2 * found / (found + false + len(anomalous))
    best = int(np.argmax(f1))
    # In the middle of the gap below the best candidate, so that neither class lies right at the threshold.
    return float(candidates[best] if best == 0 else (candidates[best - 1] + candidates[best]) / 2)
