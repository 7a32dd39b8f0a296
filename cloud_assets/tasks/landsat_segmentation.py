"""Cloud masks of Landsat 8 scenes, learnt from 38-Cloud."""

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.evaluation.gate import Gate
from cloud_assets.evaluation.segmentation import SegmentationEvaluation
from cloud_assets.evaluation.stitched_scenes import Cloud38StitchedScenes
from cloud_assets.models.specifications import AttentionUNet, NetworkSpecification, UNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.tasks.task import Task
from cloud_assets.training.recipes import FocalDice, Optimisation, Segmentation


def _recipe(network: NetworkSpecification) -> Segmentation:
    """Half of each batch is simulated, and clear patches get simulated clouds: few scenes hold few kinds of ground."""
    return Segmentation(
        network=network,
        loss=FocalDice(focal=0.25),
        clip=(0.0, 1.2),
        simulated_fraction=0.5,
        composited_fraction=0.3,
        augmentation=Augmentation(brightness=0.3, gamma=0.1, saturation=0.3, nodata_wedge=0.1),
        optimisation=Optimisation(scheduler="linear", max_epochs=1000, patience=None, budget_minutes=15),
    )


TASK = Task(
    name="landsat_segmentation",
    title="Cloud masks for Landsat 8",
    description=(
        "Tells cloud from clear ground, pixel by pixel, on the red, green, blue and near-infrared bands of level 1. "
        "Truth: 38-Cloud (Mohajerani & Saeedi 2019, https://arxiv.org/abs/1901.10077)."
    ),
    dataset=Cloud38(),
    patches=PatchRecipe(bands=("red", "green", "blue", "nir"), minimum_valid=0.2),
    split=GroupedSplit(by="group", stratify="cloud_percentage", fractions=(0.7, 0.15, 0.15)),
    variants={"unet": _recipe(UNet(width=32)), "attention_unet": _recipe(AttentionUNet(width=32))},
    evaluation=SegmentationEvaluation(protocols=(Cloud38StitchedScenes(),)),
    gate=Gate(metric="iou", mode="max", must_beat=("all_cloud_iou",)),
    tags={"domain": "segmentation", "sensor": "landsat-8"},
)
