"""Readers of the public data sets' own formats, and the writers that make small samples in them."""
