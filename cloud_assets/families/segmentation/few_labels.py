"""Segmentation recipes for few labels, with simulated patches in each batch."""

from typing import Literal

from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.learning.focal_dice import FocalDice
from cloud_assets.learning.optimisation import Optimisation
from cloud_assets.networks.shipped import SIMULATION
from cloud_assets.networks.specifications import EfficientNetUNet, NetworkSpecification
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.simulation.biomes import BIOMES
from cloud_assets.simulation.ground import GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe

RANDOM_SENSORS = Augmentation(
    brightness=0.3,
    gamma=0.1,
    band_offset=0.005,
    blur=0.1,
    noise=0.004,
    coarser=0.1,
    resolution=(0.7, 1.5),
    saturation=0.3,
    quantisation=0.2,
    nodata_wedge=0.1,
)
"""What the sun, the air and any sensor may do to a patch; its mask stays right under all of it."""

VARIED_LIGHT = Augmentation(brightness=0.3, gamma=0.1, saturation=0.3, nodata_wedge=0.1)
"""The milder variations of the tasks' own recipes, whose sensor is known."""

_TIME_LIMIT_MINUTES = 90
"""Three times what the tasks' own trainings take on two slow processor cores."""
ANYWHERE = SimulationRecipe(ground=GroundRecipe(biomes=tuple(BIOMES)))
"""All landscapes, those of low contrast between ground and cloud included."""


def mixed_with_simulation(
    network: NetworkSpecification, steps: int, classes: Literal["binary", "four"] = "binary"
) -> Segmentation:
    """Half of each batch is simulated, and some clear patches get simulated clouds: few scenes hold few kinds of land.

    Reflectance is kept up to 1.2, not cut at 0.4 as in the recipes that have thousands of labels: snow and cloud differ
    above that. The authors' own recipes are the ``full`` run configurations.

    Args:
        network: The network to train.
        steps: Steps of the training; the learning rate falls to zero by the last.
        classes: Clear and cloud, or thin cloud and shadow as well.
    """
    return Segmentation(
        network=network,
        classes=classes,
        loss=FocalDice(focal=0.25),
        clip=(0.0, 1.2),
        simulated_fraction=0.5,
        composited_fraction=0.3,
        simulated_validation=24,
        simulation=ANYWHERE,
        augmentation=VARIED_LIGHT,
        optimisation=Optimisation(
            scheduler="linear", steps=steps, max_epochs=1000, patience=None, budget_minutes=_TIME_LIMIT_MINUTES
        ),
    )


def from_simulation(steps: int) -> Segmentation:
    """The same, starting from the weights that come with the package, at the lower rate that trained weights bear.

    Its network looks farther around a pixel than the small ones, so patches get the wider mirrored border of the
    model that it starts from, and it is shown fine texture as that model is.

    Args:
        steps: Steps of the training; the learning rate falls to zero by the last.
    """
    network = EfficientNetUNet(encoder="efficientnet-b2", encoder_weights=SIMULATION)
    recipe = mixed_with_simulation(network, steps)
    optimisation = recipe.optimisation.model_copy(update={"learning_rate": 3e-4})
    return recipe.model_copy(update={"optimisation": optimisation, "mirrored_border": 32, "texture": True})


def any_sensor(steps: int, metres: float) -> Segmentation:
    """The recipe for sensors that were never seen: red, green and near infrared, each patch by its own brightness.

    After Wright et al. 2024 (OmniCloudMask, https://doi.org/10.1016/j.rse.2024.114122): z-scores by patch, which ignore
    nodata, and mixed resolutions. A band may be missing, and everything else about a sensor varies more than usual.

    Args:
        steps: Steps of the training; the learning rate falls to zero by the last.
        metres: The data's own pixel size; what is shown runs from 10 to 60 m.
    """
    recipe = mixed_with_simulation(EfficientNetUNet(), steps)
    varied = {"resolution": (10 / metres, 60 / metres), "band_gain": 0.15, "band_dropout": 0.08}
    # The augmentation varies the resolution, of real and simulated patches alike.
    ground = ANYWHERE.ground.model_copy(update={"pixel_metres": (metres, metres)})
    return recipe.model_copy(
        update={
            "bands": ("red", "green", "nir"),
            "normalisation": "patch_standardise",
            "simulation": ANYWHERE.model_copy(update={"ground": ground}),
            "augmentation": RANDOM_SENSORS.model_copy(update={**varied, "saturation": 0.4, "blur": 0.2}),
        }
    )
