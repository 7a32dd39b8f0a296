"""Simulated ground, clouds, radar and sensors: the physics behind the sample data and the training augmentation."""
