"""The families of models: segmentation, classification, anomaly detection and translation."""
