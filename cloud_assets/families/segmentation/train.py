"""Training of segmentation models."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import ConcatDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex, MulticlassJaccardIndex

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.errors import InvalidModel, InvalidRecipe
from cloud_assets.families.segmentation.batches import Composition, PatchSource, TrainingBatches, ValidationBatches
from cloud_assets.families.segmentation.distillation import distance, teacher_answers, teacher_of
from cloud_assets.families.segmentation.predictor import SegmentationPredictor
from cloud_assets.families.segmentation.recipe import Segmentation, SegmentationSection
from cloud_assets.families.segmentation.threshold import ThresholdSearch
from cloud_assets.inference.back_ends import class_probability
from cloud_assets.inference.bundle import ModelBundle, Threshold
from cloud_assets.learning.fit import TrainedModule
from cloud_assets.learning.focal_dice_loss import FocalDiceLoss
from cloud_assets.learning.session import Plan, require_masks, require_rows, simulated_patches, train_model
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.shipped import SIMULATION, SIMULATION_MODEL
from cloud_assets.networks.specifications import EfficientNetUNet
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.compositor import CloudCompositor, clear_patches
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.statistics import band_positions, fitted_preprocessing
from cloud_assets.patches.store import PatchStore
from cloud_assets.progress import progress_bar

_CLASSES = {"binary": ("clear", "cloud"), "four": ("clear", "thick cloud", "thin cloud", "cloud shadow")}
_CLOUD_CLASSES = {"binary": [1], "four": [THICK_CLOUD, THIN_CLOUD]}
_FEWEST_BATCHES = 50  # batches an epoch at least: more than in other families, as validation is dearer
_VALIDATION_SEED = 1_000_003  # seed offset of the simulated validation patches
_NOT_CHOSEN = Threshold(value=0.5, method="not chosen yet", unit="cloud probability")
_PREDICTED_AT_ONCE = 8  # a GPU predicts this many patches as fast as one


class SegmentationModule(TrainedModule):
    """Loss and metrics of a segmentation network."""

    def __init__(self, network: nn.Module, recipe: Segmentation) -> None:
        super().__init__(network, recipe.optimisation)
        classes = len(_CLASSES[recipe.classes])
        self.loss = FocalDiceLoss(recipe.loss, classes)
        self.cloud_classes = _CLOUD_CLASSES[recipe.classes]
        self.cloud_metrics = MetricCollection(
            {"val_iou": BinaryJaccardIndex(ignore_index=UNLABELLED), "val_f1": BinaryF1Score(ignore_index=UNLABELLED)}
        )
        self.class_metrics = MetricCollection(
            {} if classes == 2 else {"val_miou": MulticlassJaccardIndex(classes, ignore_index=UNLABELLED)}
        )

        self.teacher_share = recipe.distil.share if recipe.distil else 0.0
        self.start_share = recipe.start_share
        self.start = _kept_start(recipe, network)

    def model_weights(self) -> dict[str, Tensor]:
        """The trained weights, mixed with those that the training started from as the recipe says."""
        trained = self.network.state_dict()
        return between(self.start, trained, self.start_share) if self.start else trained

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """The loss of a batch: distance from the labels, and from a teacher's answers if the batch has some."""
        images, truth, *answers = batch
        logits = self.together(self._logits(images, truth).float())
        loss: Tensor = self.loss(logits, self.together(truth.long()))
        if answers:
            loss = torch.lerp(loss, distance(logits, self.together(answers[0])), self.teacher_share)
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Counts a batch into the validation metrics, which are those of the predictor at a threshold of 0.5.

        Patches have the predictor's mirrored border, whose pixels are unlabelled. Test-time augmentation is left out.
        """
        images, truth = batch
        truth = truth.long()
        logits = self._logits(images, truth)
        probability = class_probability(logits)
        is_cloud = probability[:, self.cloud_classes].sum(dim=1) >= 0.5
        cloud_codes = torch.tensor(self.cloud_classes, device=truth.device)
        cloud_truth = torch.where(truth == UNLABELLED, truth, torch.isin(truth, cloud_codes).long())
        self.cloud_metrics.update(is_cloud.long(), cloud_truth)
        if len(self.class_metrics):
            self.class_metrics.update(probability.argmax(dim=1), truth)
        self.log("val_loss", self.loss(logits, truth), on_epoch=True, sync_dist=True, batch_size=len(images))

    def _logits(self, images: Tensor, truth: Tensor) -> Tensor:
        """Logits (N, K, H, W) on the pixels of the truth (N, H, W), which those of the images may be larger than."""
        logits: Tensor = self.network(self.to_layout(images))
        is_finer = truth.shape[1:] != logits.shape[2:]
        return interpolate(logits, truth.shape[1:], mode="bilinear") if is_finer else logits

    def on_validation_epoch_end(self) -> None:
        """Logs them."""
        for metrics in (self.cloud_metrics, self.class_metrics):
            self.log_dict(metrics.compute())
            metrics.reset()


def train(recipe: Segmentation, run: TrainingRun) -> ModelBundle:
    """Trains a segmentation model; see :func:`train_model`. Its decision threshold is chosen on validation."""
    return train_model(recipe, run, _plan)


def _plan(recipe: Segmentation, run: TrainingRun) -> Plan:
    check_start(recipe, run.store)
    training, validation = (_labelled(run, split, recipe) for split in ("train", "validation"))
    preprocessing = fitted_preprocessing(
        run.store,
        training if len(training) else validation,
        bands=recipe.bands,
        normalisation=recipe.normalisation,
        clip=recipe.clip,
        texture=recipe.texture,
        optional=recipe.optional_bands,
    )
    names = [preprocessing.profile.find(band).common_name for band in preprocessing.bands]
    if unknown := set(recipe.optional_bands) - set(names):
        raise InvalidRecipe(f"optional_bands {', '.join(sorted(unknown))}: not among {', '.join(names)}. Correct them.")
    channels = band_positions(run.store.roles[IMAGES], recipe.bands)
    classes = _CLASSES[recipe.classes]
    out_channels = 1 if len(classes) == 2 else len(classes)
    module = SegmentationModule(recipe.network.build(preprocessing.channels, out_channels), recipe)
    block = recipe.network.coarsening
    multiple = math.lcm(recipe.network.size_multiple, block.denominator)
    sizes: dict[str, Any] = {"batch_size": recipe.optimisation.batch_size, "multiple": multiple, "block": block}
    codes = class_codes(recipe)
    shape = run.store.roles[IMAGES].shape[1:]
    side = min(recipe.crop or shape[0], *shape)
    composition = _composition(recipe, run, PatchSource(run.store, training, channels), preprocessing, side)
    judged = [PatchSource(run.store, validation, channels)] if recipe.real_validation else []
    if recipe.simulated_validation:
        whole = min(shape)  # as large as the real ones: metrics count pixels
        judged.append(_simulated(recipe, run, preprocessing, whole, recipe.simulated_validation, validation=True))
    border, margin = recipe.mirrored_border, math.ceil(recipe.mirrored_border / block)
    return Plan(
        module=module,
        training=TrainingBatches(
            composition,
            preprocessing,
            Augmenter(recipe.augmentation, preprocessing.without(recipe.optional_bands).absent),
            codes,
            crop=recipe.crop,
            seed=recipe.optimisation.seed,
            **sizes,
        ),
        validation=ConcatDataset(
            [ValidationBatches(one, preprocessing, codes, border=margin, **sizes) for one in judged if len(one)]
        ),
        samples=len(training),
        fewest_batches=_FEWEST_BATCHES,
        network=recipe.network,
        preprocessing=preprocessing,
        out_channels=out_channels,
        patch_size=recipe.crop or shape[0],
        classes=classes,
        section=SegmentationSection(
            cloud_classes=tuple(_CLOUD_CLASSES[recipe.classes]),
            test_time_augmentation=recipe.test_time_augmentation,
            mirrored_border=border,
        ),
        finish=partial(_with_threshold, recipe, run, judged),
    )


def _with_threshold(
    recipe: Segmentation, run: TrainingRun, sources: Sequence[PatchSource], bundle: ModelBundle
) -> ModelBundle:
    search = searched_thresholds(bundle, sources, recipe.optimisation.device, progress=run.progress)
    threshold, iou = search.best()
    points = search.operating_points("the validation split") or None
    section = SegmentationSection.of(bundle.card).model_copy(update={"operating_points": points})
    return bundle.with_card(
        threshold=threshold,
        metrics={**bundle.card.metrics, "val_iou_at_threshold": iou},
        details={**bundle.card.details, **section.details()},
    )


def between(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], start_share: float) -> dict[str, Tensor]:
    """Mixes two states of one network, weight by weight (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).

    A network that goes on from good weights on little or narrow data forgets what these knew of other places; a mixture
    of both keeps most of that and most of what is new. Running statistics of batch norm are mixed alike.

    Args:
        start: The weights before the training.
        trained: The weights after it, of the same names and shapes.
        start_share: Share of the first, 0 … 1.

    Returns:
        The mixture; what is not floating point (counters) as after the training.
    """
    return {
        name: torch.lerp(tensor, start[name].to(tensor), start_share) if torch.is_floating_point(tensor) else tensor
        for name, tensor in trained.items()
    }


def _kept_start(recipe: Segmentation, network: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights that the training starts from; nothing unless the recipe keeps a share of them."""
    if not recipe.start_share or not isinstance(recipe.network, EfficientNetUNet):
        return {}
    from cloud_assets.networks.efficientnet_unet import check_whole_start

    check_whole_start(network, recipe.network.encoder_weights)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def class_codes(recipe: Segmentation) -> npt.NDArray[np.uint8]:
    """Class index of each cloud code, (256,) uint8; 255 for what is unlabelled."""
    codes = np.full(256, UNLABELLED, np.uint8)
    if recipe.classes == "four":
        codes[[CLEAR, THICK_CLOUD, THIN_CLOUD, CLOUD_SHADOW]] = [CLEAR, THICK_CLOUD, THIN_CLOUD, CLOUD_SHADOW]
    else:
        codes[[CLEAR, CLOUD_SHADOW]], codes[[THICK_CLOUD, THIN_CLOUD]] = 0, 1
    return codes


def searched_thresholds(
    bundle: ModelBundle, sources: Sequence[PatchSource], device: str, *, progress: bool
) -> ThresholdSearch:
    """The search for the decision threshold, with the predictor that evaluation and serving use."""
    predictor = SegmentationPredictor(bundle.with_card(threshold=_NOT_CHOSEN), device)
    search = ThresholdSearch()
    total = sum(len(source) for source in sources)
    with progress_bar("Choosing the threshold", total, "patches", progress) as bar:
        for source in sources:
            for start in range(0, len(source), _PREDICTED_AT_ONCE):
                rows = source.indices[start : start + _PREDICTED_AT_ONCE]
                answer = predictor.predict(source.store.array()[rows][:, list(source.channels)])
                codes = source.store.masks[rows]
                is_cloud = np.isin(codes, (THICK_CLOUD, THIN_CLOUD)).astype(np.uint8)
                is_unknown = (codes == UNLABELLED) | (answer["mask"] == UNLABELLED)
                truth = np.where(is_unknown, np.uint8(UNLABELLED), is_cloud)
                for probability_of_patch, truth_of_patch in zip(answer["cloud_probability"], truth, strict=True):
                    search.update(probability_of_patch, truth_of_patch)
                bar.update(len(rows))
    return search


def _labelled(run: TrainingRun, split: str, recipe: Segmentation) -> npt.NDArray[np.int64]:
    """Rows of a split that hold a labelled pixel; there may be none if the recipe does not use the split."""
    is_used = recipe.simulated_fraction < 1 if split == "train" else recipe.real_validation
    if not run.store.has_masks and not is_used:
        return np.zeros(0, np.int64)
    require_masks(run)
    indices = run.splits.indices(split)
    coverage = run.store.index["cloud_percentage"].to_numpy(dtype=np.float64)
    # A teacher knows what is in patches that nobody labelled.
    is_known = recipe.distil is not None and split == "train"
    labelled: npt.NDArray[np.int64] = indices if is_known else indices[~np.isnan(coverage[indices])]
    if is_used:
        require_rows(run, split, labelled, "has a labelled pixel")
    return labelled


def _composition(
    recipe: Segmentation, run: TrainingRun, real: PatchSource, preprocessing: Preprocessing, side: int
) -> Composition:
    """The sources that batches are mixed from."""
    simulated = compositor = None
    clear: frozenset[int] = frozenset()
    if recipe.simulated_fraction > 0:
        simulated = _simulated(recipe, run, preprocessing, side, recipe.simulated_patches)
    if recipe.distil is not None:
        classes = _CLASSES[recipe.classes]
        teacher = teacher_of(run, recipe.distil.teacher, classes)

        def asked(source: PatchSource, name: str) -> PatchSource:
            path, device = run.workspace / f"teacher_{name}.npy", recipe.optimisation.device
            answers = teacher_answers(teacher, source, path, len(classes), device, progress=run.progress)
            return replace(source, answers=answers)

        real = asked(real, "real") if recipe.simulated_fraction < 1 else real
        simulated = simulated and asked(simulated, "simulated")
    if recipe.composited_fraction > 0 and len(real):
        clear = frozenset(int(index) for index in clear_patches(real.store, real.indices))
        compositor = CloudCompositor(
            preprocessing.instrument,
            preprocessing.bands,
            recipe.simulation.clouds,
            illumination=recipe.simulation.illumination,
            sun_elevation=recipe.simulation.sun_elevation,
            ozone=recipe.simulation.ozone,
            haze=recipe.simulation.haze,
            size=side,
            seed=recipe.optimisation.seed,
        )
    return Composition(real, simulated, recipe.simulated_fraction, compositor, clear, recipe.composited_fraction)


def _simulated(
    recipe: Segmentation,
    run: TrainingRun,
    preprocessing: Preprocessing,
    side: int,
    count: int,
    *,
    validation: bool = False,
) -> PatchSource:
    """Simulated patches in the model's bands; those for validation are none of those for training."""
    store = simulated_patches(
        run,
        preprocessing,
        recipe.simulation,
        size=side,
        count=count,
        seed=recipe.optimisation.seed + (_VALIDATION_SEED if validation else 0),
    )
    return PatchSource(store, np.arange(len(store)), list(range(len(preprocessing.bands))))


def check_start(recipe: Segmentation, store: PatchStore) -> None:
    """Makes sure that shipped weights meet the bands and the scale that they learnt from; other starts pass.

    Raises:
        UnknownBand: If the instrument of the patches lacks a band of the recipe.
        InvalidModel: If bands, clip or normalisation are others.
    """
    if not isinstance(recipe.network, EfficientNetUNet) or recipe.network.encoder_weights != SIMULATION:
        return
    role, learnt_from = store.roles[IMAGES], ModelBundle.open(SIMULATION_MODEL).card.preprocessing
    expected = _input(learnt_from.instrument, learnt_from.bands, learnt_from)
    found = _input(role.instrument, recipe.bands or role.bands, recipe)
    differing = [name for name in expected if expected[name] != found[name]]
    if differing:
        wanted = ", ".join(f"{name} {expected[name]} instead of {found[name]}" for name in differing)
        raise InvalidModel(f"encoder_weights: simulation needs {wanted}. Change these, or set encoder_weights: none.")


def _input(instrument: str, bands: tuple[str, ...], scale: Segmentation | Preprocessing) -> dict[str, object]:
    """What a network sees: bands by their common names, and how they are scaled."""
    names = tuple(INSTRUMENTS[instrument].find(band).common_name for band in bands)
    return {"bands": names, "clip": scale.clip, "normalisation": scale.normalisation, "texture": scale.texture}
