"""The segmentation recipe for few labels: half of what a network sees is simulated."""

from cloud_assets.models.specifications import NetworkSpecification
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.training.recipes import FocalDice, Optimisation, Segmentation

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
"""What the sun, the air and the sensor may do to a patch; its mask stays right under all of it."""


def mixed_with_simulation(network: NetworkSpecification, budget_minutes: float) -> Segmentation:
    """Half of each batch is simulated, and some clear patches get simulated clouds: few scenes hold few kinds of land.

    Reflectance is kept up to 1.2, not cut at 0.4 as in the recipes that have thousands of labels: snow and cloud differ
    above that. The authors' own recipes are the ``full`` run configurations.

    Args:
        network: The network to train.
        budget_minutes: Wall-clock budget; the learning rate falls to zero by its end.
    """
    return Segmentation(
        network=network,
        loss=FocalDice(focal=0.25),
        clip=(0.0, 1.2),
        simulated_fraction=0.5,
        composited_fraction=0.3,
        simulated_validation=24,
        augmentation=RANDOM_SENSORS,
        optimisation=Optimisation(scheduler="linear", max_epochs=1000, patience=None, budget_minutes=budget_minutes),
    )
