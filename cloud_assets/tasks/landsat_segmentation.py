"""Task: cloud masks of Landsat 8 scenes, learnt from 38-Cloud."""

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.families.segmentation.recipe import (
    SegmentationEvaluation,
    any_sensor,
    compact,
    from_simulation,
    mixed_with_simulation,
)
from cloud_assets.families.segmentation.stitched_scenes import Cloud38StitchedScenes
from cloud_assets.networks.specifications import AttentionUNet, UNet
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.reports.comparison import Gate
from cloud_assets.tasks.task import Task

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
    variants={
        "unet": mixed_with_simulation(UNet(width=32), steps=600),
        "attention_unet": mixed_with_simulation(AttentionUNet(width=32), steps=600),
        "unet_efficientnet_b2": from_simulation(steps=600),
        "unet_compact": compact(steps=600),
        "unet_any_sensor": any_sensor(steps=600, metres=30),
    },
    optional_variants=("unet_efficientnet_b2", "unet_compact", "unet_any_sensor"),
    evaluation=SegmentationEvaluation(protocols=(Cloud38StitchedScenes(),)),
    gate=Gate(metric="iou", mode="max"),
    tags={"domain": "segmentation", "sensor": "landsat-8"},
)
