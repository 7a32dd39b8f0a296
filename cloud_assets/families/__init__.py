"""The families of models: segmentation, classification, anomaly detection and translation."""

from cloud_assets.networks.torchvision_pairing import ensure_torchvision

ensure_torchvision()
