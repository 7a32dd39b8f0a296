"""Readers of scene files: GeoTIFF, Sentinel-2 SAFE, Landsat Collection 2, 38-Cloud."""
