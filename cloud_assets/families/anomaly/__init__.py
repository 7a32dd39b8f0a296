"""Anomaly scores: recipe, batches, training, prediction, evaluation and scene products."""
