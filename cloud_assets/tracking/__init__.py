"""Tracking with MLflow: runs, the model registry, the served model.

Every method reaches the store at once or raises :class:`TrackingUnavailable`; whether work goes on without it is the
caller's decision. Only :mod:`cloud_assets.tracking.store` imports mlflow; the other layers get plain Python.
"""

from cloud_assets.tracking.store import default_uri
from cloud_assets.tracking.tracker import RUN_FILE, RegisteredVersion, Tracker, flattened

__all__ = ["RUN_FILE", "RegisteredVersion", "Tracker", "default_uri", "flattened"]
