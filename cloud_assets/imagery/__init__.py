"""Whole scenes as pixels: formats, windows and output rasters; no model."""
