"""Task: clouds as anomalies among cloud-free pictures, learnt without pictures of clouds."""

from cloud_assets.datasets.image_folders import ImageFolders
from cloud_assets.families.anomaly.normal_split import NormalSplit
from cloud_assets.families.anomaly.recipe import (
    AUTHORS_OPTIMISATION,
    CLOUDING_OPTIMISATION,
    AnomalyEvaluation,
    Reconstruction,
    SyntheticAnomalies,
    WhiteSmoothness,
)
from cloud_assets.networks.specifications import ConvAutoencoder, VGG19Autoencoder
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.reports.comparison import Gate
from cloud_assets.tasks.task import Task

# What a processor can do with the authors' recipes; run_configs/cloud_anomaly.full.yaml has them unabridged.
_BOUNDED = AUTHORS_OPTIMISATION.model_copy(update={"steps": 100, "budget_minutes": 90.0})
_BOUNDED_VGG = _BOUNDED.model_copy(update={"steps": 40, "learning_rate": 3e-4})
_BOUNDED_CLOUDING = CLOUDING_OPTIMISATION.model_copy(update={"steps": 600, "budget_minutes": 90.0})

TASK = Task(
    name="cloud_anomaly",
    title="Clouds as anomalies in pictures",
    description=(
        "Scores how unusual a picture is for one who knows cloud-free ground only, and where in the picture. Two "
        "autoencoders tell by what they cannot reproduce; others by simulated clouds, or by what is white and smooth."
    ),
    dataset=ImageFolders(),
    patches=PatchRecipe(bands=("red", "green", "blue"), size=384, resize=True, minimum_valid=0.5),
    split=NormalSplit(),
    variants={
        "conv_autoencoder": Reconstruction(network=ConvAutoencoder(width=64), optimisation=_BOUNDED),
        "vgg19_autoencoder": Reconstruction(network=VGG19Autoencoder(), optimisation=_BOUNDED_VGG),
        "synthetic_clouds": SyntheticAnomalies(optimisation=_BOUNDED_CLOUDING),
        "white_smoothness": WhiteSmoothness(),
    },
    evaluation=AnomalyEvaluation(),
    gate=Gate(metric="auroc", mode="max"),
    tags={"domain": "anomaly-detection", "sensor": "rgb-pictures"},
)
