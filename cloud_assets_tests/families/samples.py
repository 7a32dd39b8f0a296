"""For each family of models a tiny recipe, data to train it on in seconds, and how it is applied to scenes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from cloud_assets.families.anomaly.normal_split import NormalSplit
from cloud_assets.families.anomaly.recipe import AnomalyEvaluation, Reconstruction
from cloud_assets.families.classification.recipe import Classification, ClassificationEvaluation
from cloud_assets.families.segmentation.recipe import Segmentation, SegmentationEvaluation
from cloud_assets.families.translation.recipe import PAPER_OPTIMISATION, Translation, TranslationEvaluation
from cloud_assets.learning.recipe import Optimisation, Recipe
from cloud_assets.networks.specifications import (
    Classifier,
    ConvAutoencoder,
    PatchDiscriminator,
    ResNetGenerator,
    UNet,
)
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.splits import GroupedSplit, PlaceSplit
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluator
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.radar_pairs import backscatter, reflectance_of, write_pairs

SIZE = 32
"""Side of the patches, pixels."""
_RGB = ("red", "green", "blue")
_FEW_STEPS = {"max_epochs": 2, "steps_per_epoch": 2, "precision": "32", "threads": 1}
_OPTIMISATION = Optimisation(**_FEW_STEPS, batch_size=4, learning_rate=3e-3, patience=None)


@dataclass(frozen=True)
class FamilySample:
    """What the contract test needs to know of a family."""

    recipe: Recipe
    evaluator: Evaluator
    split: Any
    store: Callable[[Path], PatchStore]
    product: str
    """A scene product that only this family's model is needed for."""
    answer: str
    """The part of a predictor's answer that the product's first bands hold."""
    instrument: str
    """Of the patches that the model reads."""
    bands: tuple[str, ...]
    scene_tolerance: float = 1e-3
    """Difference of that product from the answer: more than rounding where windows of one size overlap in a patch."""


def _half_cloudy(folder: Path) -> PatchStore:
    """Patches with 0 to 100 % of bright cloud on dark ground, from the left; two scenes of six a split."""
    rng = np.random.default_rng(0)
    images = rng.integers(300, 900, (36, 3, SIZE, SIZE)).astype(np.uint16)
    masks = np.zeros((36, SIZE, SIZE), np.uint8)
    for number in range(36):
        width = round(SIZE * (number % 12) / 11)
        images[number, :, :, :width] += 2500
        masks[number, :, :width] = 1 + number % 2
    return store_arrays(
        folder, images, masks, bands=_RGB, instrument="sentinel2_l1c", groups=[f"{n // 6}" for n in range(36)],
        official_splits=["train"] * 12 + ["validation"] * 12 + ["test"] * 12,
    )  # fmt: skip


def _stripes_and_blobs(folder: Path) -> PatchStore:
    """Pictures of dark stripes, some of them with a bright blob."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, (24, 1, 1, 1))
    stripes = 40 + 20 * np.sin(np.arange(SIZE) / 3 + phase) + rng.normal(0, 2, (24, 3, SIZE, SIZE))
    stripes[16:, :, 8:24, 8:24] = rng.integers(180, 255, (8, 1, 16, 16))
    pixels = np.clip(stripes, 1, 255).astype(np.uint8)
    return store_arrays(
        folder, pixels, bands=_RGB, instrument="rgb_8bit", labels=["noncloud"] * 16 + ["cloud"] * 8
    )  # fmt: skip


def _pairs(folder: Path) -> PatchStore:
    radar = backscatter(14, SIZE)
    return write_pairs(folder, radar, reflectance_of(radar))


SAMPLES: Mapping[str, FamilySample] = MappingProxyType(
    {
        "segmentation": FamilySample(
            recipe=Segmentation(
                network=UNet(width=4, depth=2), crop=None, augmentation=Augmentation.none(), optimisation=_OPTIMISATION
            ),
            evaluator=SegmentationEvaluation(worst_patches=1, typical_patches=1),
            split=GroupedSplit(),
            store=_half_cloudy,
            product="mask",
            answer="mask",
            instrument="sentinel2_l1c",
            bands=_RGB,
        ),
        "classification": FamilySample(
            recipe=Classification(
                network=Classifier(backbone="test_resnet", input_size=SIZE),
                optimisation=_OPTIMISATION,
                augmentation=Augmentation.none(),
                training_windows=24,
                validation_windows=12,
            ),
            evaluator=ClassificationEvaluation(windows=12, baseline_windows=12, mistakes=1),
            split=GroupedSplit(),
            store=_half_cloudy,
            product="coverage",
            answer="class",
            instrument="sentinel2_l1c",
            bands=_RGB,
        ),
        "anomaly": FamilySample(
            recipe=Reconstruction(network=ConvAutoencoder(width=8), optimisation=_OPTIMISATION),
            evaluator=AnomalyEvaluation(shown=1),
            split=NormalSplit(),
            store=_stripes_and_blobs,
            product="anomaly",
            answer="error_map",
            scene_tolerance=0.03,
            instrument="rgb_8bit",
            bands=_RGB,
        ),
        "translation": FamilySample(
            recipe=Translation(
                bands=("B04", "B03"),
                network=ResNetGenerator(width=4, blocks=1),
                discriminator=PatchDiscriminator(width=4, layers=1),
                crop=SIZE,
                pool=0,
                pictures=1,
                statistics_patches=2,
                optimisation=PAPER_OPTIMISATION.model_copy(update=_FEW_STEPS),
            ),
            evaluator=TranslationEvaluation(baseline_pixels=1000, baseline_window=3, examples=1),
            split=PlaceSplit(),
            store=_pairs,
            product="optical",
            answer="reflectance",
            instrument="sentinel1_grd",
            bands=("VV", "VH"),
        ),
    }
)
