"""Simulated ground, clouds, radar and sensors: the physics behind the sample data and the training augmentation."""

from typing import Final

PHYSICS_VERSION: Final = 1
"""Raised by hand, and never lowered, whenever the same seed and recipe would give other pixels than before.

Caches of simulated patches and the fingerprints of trainings on them contain it: older ones are then made anew.
"""
