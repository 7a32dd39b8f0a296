"""What trainings of all families share: optimisation, losses, fitting, numbered batches."""

from cloud_assets.networks.torchvision_pairing import ensure_torchvision

ensure_torchvision()
