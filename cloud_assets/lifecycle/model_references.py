"""Models by what users call them: a folder, ``simulation``, or ``models:/<task>@<alias>`` of the registry."""

from pathlib import Path
from typing import TYPE_CHECKING

from cloud_assets.errors import InvalidRecipe, NoModelForProduct
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.shipped import SIMULATION, SIMULATION_MODEL
from cloud_assets.scenes.prediction import Model

if TYPE_CHECKING:
    from cloud_assets.tracking import Tracker

REGISTERED = "models:/"
"""How references to the registry begin."""


def load_model(path_or_name: Path | str, device: str = "auto") -> Model:
    """A trained model.

    Args:
        path_or_name: The folder of a trained model; ``simulation``, the model for cloud masks that comes with the
            package; or ``models:/<task>@<alias>``, such as ``models:/landsat_segmentation@champion``, in the registry
            that ``MLFLOW_TRACKING_URI`` names.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Raises:
        InvalidRecipe: If there is no such folder.
        InvalidModel: If the folder holds no whole model.
        NoModelForProduct: If the registry holds no such model.
        TrackingUnavailable: If the registry does not answer.

    Example:
        >>> from cloud_assets import load_model
        >>> model = load_model("simulation", device="cpu")
        >>> model.card.family, model.card.classes
        ('segmentation', ('clear', 'thick cloud', 'thin cloud', 'cloud shadow'))
    """
    return Model(referenced_bundle(path_or_name), device)


def referenced_bundle(reference: Path | str, tracker: "Tracker | None" = None) -> ModelBundle:
    """The model that a reference names, in that registry or the one of the environment: see :func:`load_model`."""
    if str(reference).startswith(REGISTERED):
        from cloud_assets.tracking import Tracker

        registry = tracker or Tracker()
        task, _, alias = str(reference).removeprefix(REGISTERED).partition("@")
        version = registry.version_at(task, alias)
        if version is None:
            raise NoModelForProduct(f"{reference}: no such registered model and alias in {registry.uri}.")
        return registry.download(version)
    folder = SIMULATION_MODEL if str(reference) == SIMULATION else Path(reference)
    if not folder.is_dir():
        raise InvalidRecipe(
            f"{str(reference)!r} is neither the folder of a trained model nor {REGISTERED}<task>@<alias> nor "
            f"{SIMULATION!r}."
        )
    return ModelBundle.open(folder)
