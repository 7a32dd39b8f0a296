"""Cloud masks: recipe, batches, training, prediction, evaluation and scene products."""
