"""The families of models, by name. One folder and one line here make a new one."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

from cloud_assets.errors import InvalidModel
from cloud_assets.families.family import Family
from cloud_assets.inference.bundle import ModelBundle, ModelCard
from cloud_assets.inference.predictor import Predictor
from cloud_assets.learning.recipe import Recipe
from cloud_assets.networks.torchvision_pairing import ensure_torchvision
from cloud_assets.reports.evaluation import Evaluator

if TYPE_CHECKING:
    from torch import nn

ensure_torchvision()

MODULES: Final[dict[str, str]] = {
    "segmentation": "cloud_assets.families.segmentation.family",
    "classification": "cloud_assets.families.classification.family",
    "anomaly": "cloud_assets.families.anomaly.family",
    "translation": "cloud_assets.families.translation.family",
}
"""Name of a family -> the module whose ``FAMILY`` is it; imported when it is asked for."""


class _Families(Mapping[str, Family]):
    def __getitem__(self, name: str) -> Family:
        family: Family = import_module(MODULES[name]).FAMILY
        return family

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


FAMILIES: Final[Mapping[str, Family]] = _Families()
"""The families by name, in the order in which they take part in scene products."""


def family_of(what: ModelBundle | ModelCard | Recipe | Evaluator) -> Family:
    """The family that a model, a recipe or an evaluator names.

    Raises:
        InvalidModel: If there is no such family here.
    """
    named = what.card if isinstance(what, ModelBundle) else what
    if named.family not in FAMILIES:
        whose = f"{named.task}/{named.variant}" if isinstance(named, ModelCard) else type(named).__name__
        raise InvalidModel(
            f"{whose} is of the family {named.family!r}; there are {', '.join(FAMILIES)}. Install the version of Cloud "
            "Assets that it was made with, or train a model of one of these families."
        )
    return FAMILIES[named.family]


def load_predictor(bundle: ModelBundle, device: str = "auto", network: "nn.Module | None" = None) -> Predictor:
    """Makes a model of any family ready to predict; see :meth:`Family.predictor`."""
    return family_of(bundle).predictor(bundle, device, network)
