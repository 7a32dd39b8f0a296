"""Whether a training may start from the weights that come with the package."""

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidModel
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.shipped import SIMULATION, SIMULATION_MODEL
from cloud_assets.networks.specifications import EfficientNetUNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore


def check_start(recipe: Segmentation, store: PatchStore) -> None:
    """Makes sure that shipped weights meet the bands and the scale that they learnt from; other starts pass.

    Args:
        recipe: What is to be trained.
        store: The patches, whose bands count where the recipe names none.

    Raises:
        UnknownBand: If the instrument of the patches lacks a band of the recipe.
        InvalidModel: If bands, clip or normalisation are others.
    """
    if not isinstance(recipe.network, EfficientNetUNet) or recipe.network.encoder_weights != SIMULATION:
        return
    role, learnt_from = store.roles[IMAGES], ModelBundle.open(SIMULATION_MODEL).card.preprocessing
    expected = _input(learnt_from.instrument, learnt_from.bands, learnt_from)
    found = _input(role.instrument, recipe.bands or role.bands, recipe)
    differing = [name for name in expected if expected[name] != found[name]]
    if differing:
        wanted = ", ".join(f"{name} {expected[name]} instead of {found[name]}" for name in differing)
        raise InvalidModel(
            f"encoder_weights: simulation needs {wanted}. Change the recipe, or set encoder_weights: none."
        )


def _input(instrument: str, bands: tuple[str, ...], scale: Segmentation | Preprocessing) -> dict[str, object]:
    """What a network sees: bands by their common names, and how they are scaled."""
    names = tuple(INSTRUMENTS[instrument].find(band).common_name for band in bands)
    return {"bands": names, "clip": scale.clip, "normalisation": scale.normalisation, "texture": scale.texture}
