"""Patch store, splits, statistics, preprocessing and augmentation."""
