"""A family of models that the package does not know: the mean cloud cover of a patch as one number."""
