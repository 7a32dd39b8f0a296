"""Whole scenes, window by window, from raw file to products."""
