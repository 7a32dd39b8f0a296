"""Coverage classes: recipe, batches, training, prediction, evaluation and scene products."""
