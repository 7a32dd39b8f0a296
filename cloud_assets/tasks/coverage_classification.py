"""Task: cloud coverage classes of Sentinel-2 patches, learnt from CloudSEN12's masks."""

from cloud_assets.datasets.cloudsen12 import CloudSEN12
from cloud_assets.families.classification.recipe import Classification, ClassificationEvaluation, ClassificationLoss
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.search_space import Choice, FloatRange, IntegerRange, SearchSpace, StudyRecipe
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.reports.comparison import Gate
from cloud_assets.tasks.task import Task

_BANDS = ("red", "green", "blue", "nir", "cirrus", "swir16")
"""Cirrus shows thin high cloud, the short-wave infrared tells snow from cloud."""
_OPTIMISATION = Optimisation(
    max_epochs=60,
    budget_minutes=90,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.01,
    scheduler="cosine",
    patience=12,
)


def _variant(backbone: str, steps: int) -> Classification:
    return Classification(
        network=Classifier(backbone=backbone),
        loss=ClassificationLoss(cover_map=1.0),
        optimisation=_OPTIMISATION.model_copy(update={"steps": steps}),
        normalisation="standardise",
        clip=(0.0, 1.0),
        simulated_fraction=0.5,
    )


TASK = Task(
    name="coverage_classification",
    title="Cloud cover classes for Sentinel-2",
    description=(
        "Tells whether a patch is clear, scattered, broken or overcast (boundaries at 25, 50 and 75 % cloud) from its "
        "visible, near-infrared, cirrus and short-wave infrared bands. The truth is counted in CloudSEN12's masks, "
        "thick and thin cloud together."
    ),
    # Scribbles label a few strokes of a patch, which tell nothing about its cover.
    dataset=CloudSEN12(label_types=("high",)),
    patches=PatchRecipe(bands=_BANDS, minimum_valid=0.2),
    split=GroupedSplit(by="group", stratify="cloud_percentage"),
    variants={
        "resnet50": _variant("resnet50", steps=400),
        "mobilenet": _variant("mobilenet", steps=800),
        "vgg16": _variant("vgg16", steps=200),
        "inception_v3": _variant("inception_v3", steps=300),
    },
    evaluation=ClassificationEvaluation(),
    gate=Gate(metric="accuracy", mode="max"),
    search_space=SearchSpace(
        {
            "optimisation.optimiser": Choice(options=("sgd", "adam", "adamw", "rmsprop")),
            "optimisation.learning_rate": FloatRange(low=1e-5, high=1e-2, log=True),
            "optimisation.weight_decay": FloatRange(low=1e-5, high=1e-1, log=True),
            "optimisation.batch_size": Choice(options=(8, 16, 32, 64)),
            "network.dropout": FloatRange(low=0.0, high=0.6),
            "network.head": Choice(options=("categorical", "ordinal")),
            "unfreezing.schedule": Choice(options=("none", "head_first", "gradual")),
            "unfreezing.epochs": IntegerRange(low=1, high=3),
            "loss.class_weights": Choice(options=("balanced", "none")),
            "augmentation.brightness": FloatRange(low=0.0, high=0.5),
            "augmentation.contrast": FloatRange(low=0.0, high=0.5),
            "augmentation.colour": FloatRange(low=0.0, high=0.5),
            "augmentation.gamma": FloatRange(low=0.0, high=0.3),
            "augmentation.band_gain": FloatRange(low=0.0, high=0.2),
            "augmentation.rotation_degrees": FloatRange(low=0.0, high=45.0),
            "augmentation.zoom": FloatRange(low=0.0, high=0.3),
            "augmentation.noise": FloatRange(low=0.0, high=0.02),
            "augmentation.blur": FloatRange(low=0.0, high=0.5),
        }
    ),
    study=StudyRecipe(
        trials=0, variant="mobilenet", metric="val_balanced_accuracy", mode="max", trial_epochs=8, trial_minutes=10
    ),
    export=ExportRecipe(),
    references=("cloudsen12_segmentation",),
    tags={"domain": "classification", "sensor": "sentinel-2"},
)
