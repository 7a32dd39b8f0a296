"""Cloud Assets: machine learning for clouds in satellite imagery, as software-defined assets."""

from cloud_assets.models.torchvision_pairing import ensure_torchvision

__version__ = "0.1.0"

ensure_torchvision()
