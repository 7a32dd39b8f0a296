"""What trainings of all families share: optimisation, losses, fitting, numbered batches."""
