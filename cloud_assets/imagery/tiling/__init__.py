"""Covering a scene with windows, running them through a pipeline, and blending them."""
