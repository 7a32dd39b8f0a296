"""Radar to optical: recipe, batches, training, prediction, evaluation and scene products."""
