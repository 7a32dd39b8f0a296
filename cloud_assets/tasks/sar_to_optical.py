"""Task: Sentinel-2 reflectance from Sentinel-1 backscatter, learnt from SEN12MS."""

from cloud_assets.datasets.sen12ms import Sen12MS
from cloud_assets.families.translation.recipe import TranslationEvaluation, cyclegan, pix2pix
from cloud_assets.learning.search_space import with_parameters
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import PlaceSplit
from cloud_assets.reports.comparison import Gate
from cloud_assets.tasks.task import Task

_BANDS = {
    "rgb": ("B04", "B03", "B02"),
    "nir_swir_rededge": ("B08", "B11", "B05"),
    "rgb_nir": ("B04", "B03", "B02", "B08"),
}
_CYCLEGAN_STEPS, _PAIRED_STEPS = 200, 1500
"""What a processor can do; the ``full`` run configuration has the papers' recipes unabridged."""
_SMALL = {
    "network.width": 24,
    "network.depth": 4,
    "discriminator.width": 12,
    "crop": 128,
    "statistics_patches": 32,
    "loss.paired_l2": 200.0,
    "optimisation.max_epochs": 1000,
    "optimisation.steps_per_epoch": 100,
    "optimisation.learning_rate": 5e-4,
    "optimisation.weight_averaging": 0.99,
    "optimisation.channels_last": True,
}
"""What makes pix2pix learn something in its steps: a small network, crops, and the error that PSNR measures."""

TASK = Task(
    name="sar_to_optical",
    title="Optical pictures from radar",
    description=(
        "Predicts Sentinel-2 reflectance from Sentinel-1 backscatter (VV, VH), which clouds do not hide. Truth: the "
        "cloud-free pairs of SEN12MS (Schmitt et al. 2019, https://arxiv.org/abs/1906.07789). A model that does not "
        "beat one constant colour per band does not become champion."
    ),
    dataset=Sen12MS(),
    patches=PatchRecipe(
        roles={"sar": ("VV", "VH"), "optical": ("B04", "B03", "B02", "B08", "B11", "B05")}, size=256, minimum_valid=0.5
    ),
    split=PlaceSplit(),
    variants={
        **{f"cyclegan_{name}": cyclegan(*bands, steps=_CYCLEGAN_STEPS) for name, bands in _BANDS.items()},
        **{
            f"pix2pix_{name}": with_parameters(pix2pix(*bands, steps=_PAIRED_STEPS), _SMALL)
            for name, bands in _BANDS.items()
        },
    },
    evaluation=TranslationEvaluation(),
    gate=Gate(metric="psnr_gain", mode="max"),
    tags={"domain": "translation", "sensor": "sentinel-1_sentinel-2"},
)
