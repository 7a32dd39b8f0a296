"""Cloud Assets: machine learning for clouds in satellite imagery, as software-defined assets.

The public API; each name is imported when it is first used, so importing the package loads no library.

* :func:`load_model`: a trained model, from a folder, from the registry, or the one that comes with the package.
* :func:`predict_array`: its answer for an array in memory.
* :func:`predict_dataarray`: cloud masks of xarray data, lazily where the data are.
* :func:`predict_scene`: all products of a scene on disk, as Cloud-Optimised GeoTIFFs.
* :data:`TASKS`: what is learned from which data, as declarations.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cloud_assets.version import __version__

if TYPE_CHECKING:
    from cloud_assets.lifecycle.model_references import load_model
    from cloud_assets.scenes.prediction import predict_array, predict_dataarray, predict_scene
    from cloud_assets.tasks import TASKS

__all__ = ["TASKS", "__version__", "load_model", "predict_array", "predict_dataarray", "predict_scene"]

_MODULES = {
    "TASKS": "cloud_assets.tasks",
    "load_model": "cloud_assets.lifecycle.model_references",
    "predict_array": "cloud_assets.scenes.prediction",
    "predict_dataarray": "cloud_assets.scenes.prediction",
    "predict_scene": "cloud_assets.scenes.prediction",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
