"""Task: cloud masks of Sentinel-2 level 1C scenes, learnt from CloudSEN12."""

from cloud_assets.datasets.cloudsen12 import CloudSEN12
from cloud_assets.families.segmentation.recipe import SegmentationEvaluation, any_sensor, compact, from_simulation
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.reports.comparison import Gate
from cloud_assets.tasks.task import Task

TASK = Task(
    name="cloudsen12_segmentation",
    title="Cloud masks for Sentinel-2",
    description=(
        "Tells cloud (thick and thin) from clear ground, pixel by pixel, on the red, green, blue and near-infrared "
        "bands of level 1C. "
        "Truth: CloudSEN12 (Aybar et al. 2022, https://doi.org/10.1038/s41597-022-01878-2)."
    ),
    dataset=CloudSEN12(),
    patches=PatchRecipe(bands=("red", "green", "blue", "nir"), size=256, minimum_valid=0.2),
    split=GroupedSplit(by="group", stratify="cloud_percentage", held_out_label_types=("high",)),
    variants={
        "unet_efficientnet_b2": from_simulation(steps=800),
        "unet_compact": compact(steps=800),
        "unet_any_sensor": any_sensor(steps=800, metres=10),
    },
    optional_variants=("unet_compact", "unet_any_sensor"),
    evaluation=SegmentationEvaluation(),
    gate=Gate(metric="iou", mode="max"),
    tags={"domain": "segmentation", "sensor": "sentinel-2"},
)
