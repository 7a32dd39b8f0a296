"""The loader of model versions that were registered in MLflow before the layout by families.

Their ``MLmodel`` names this module; new versions name :mod:`cloud_assets.families.served_model`.
"""

from cloud_assets.families.served_model import _load_pyfunc

__all__ = ["_load_pyfunc"]
