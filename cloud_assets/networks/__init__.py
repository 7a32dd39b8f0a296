"""Networks, their specifications, and the weights that come with the package."""

from cloud_assets.networks.torchvision_pairing import ensure_torchvision

ensure_torchvision()
