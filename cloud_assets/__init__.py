"""Cloud Assets: machine learning for clouds in satellite imagery, as software-defined assets."""

import os

from cloud_assets.networks.torchvision_pairing import ensure_torchvision

__version__ = "0.1.0"

ensure_torchvision()

# Waiting threads of OpenMP spin by default: as soon as another process wants one of two cores, a training slows down
# many times over. Read once, when torch is loaded; a value of yours wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
