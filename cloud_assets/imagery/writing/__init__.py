"""Output rasters of a scene and their quick-look pictures."""
