"""What the recipe for few labels is made of, ingredient by ingredient."""

from cloud_assets.families.segmentation.ablation_recipe import AblationRecipe, Ingredient
from cloud_assets.families.segmentation.few_labels import RANDOM_SENSORS
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.learning.optimisation import Optimisation
from cloud_assets.networks.specifications import EfficientNetUNet
from cloud_assets.patches.augmentation import Augmentation

_RATE = "optimisation.learning_rate"


def ablation_of(recipe: Segmentation, **options: int) -> AblationRecipe:
    """Takes a recipe for few labels apart: from flips, turns and mild changes of brightness to all that there is.

    Args:
        recipe: The recipe; the rows have what it has, and from "random sensors" on stronger augmentation, which tells
            whether it would pay.
        options: Fields of the ablation's recipe, for example ``epochs``.

    Returns:
        The ablation.
    """
    plain = {
        "clip": (0.0, 0.4),
        "augmentation": Augmentation().model_dump(),
        "simulated_fraction": 0.0,
        "simulated_validation": 0,
        "composited_fraction": 0.0,
        "optimisation.weight_averaging": None,
    }
    ingredients = [
        Ingredient(name="reflectance up to 1.2", changes={"clip": recipe.clip}),
        Ingredient(name="simulated patches", changes={"simulated_fraction": recipe.simulated_fraction}),
        Ingredient(name="composited clouds", changes={"composited_fraction": recipe.composited_fraction}),
        Ingredient(name="random sensors", changes={"augmentation": RANDOM_SENSORS.model_dump()}),
        Ingredient(name="hardened validation", changes={"simulated_validation": recipe.simulated_validation}),
        Ingredient(
            name="averaged weights",
            changes={"optimisation.weight_averaging": recipe.optimisation.weight_averaging or 0.99},
        ),
    ]
    if isinstance(recipe.network, EfficientNetUNet) and recipe.network.encoder_weights != "none":
        plain[_RATE] = Optimisation().learning_rate
        changes = {"network.encoder_weights": recipe.network.encoder_weights, _RATE: recipe.optimisation.learning_rate}
        ingredients.append(Ingredient(name="weights from simulation", changes=changes))
    return AblationRecipe(plain=plain, ingredients=tuple(ingredients), **options)
