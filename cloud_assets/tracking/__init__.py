"""Tracking with MLflow: runs, the model registry, the served model.

Every method reaches the store at once or raises :class:`TrackingUnavailable`; whether work goes on without it is the
caller's decision. Only :mod:`cloud_assets.tracking.store` imports mlflow; the other layers get plain Python.
"""

from cloud_assets.tracking.registry import RegisteredVersion, Registry
from cloud_assets.tracking.runs import RUN_FILE, Runs, flattened
from cloud_assets.tracking.store import default_uri

__all__ = ["RUN_FILE", "RegisteredVersion", "Tracker", "default_uri", "flattened"]


class Tracker(Runs, Registry):
    """The runs and the registered models behind one URI.

    Args:
        uri: Tracking URI; default :func:`default_uri`.
    """
