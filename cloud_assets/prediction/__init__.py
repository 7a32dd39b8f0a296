"""Where models that were registered before the layout by families look for their loader."""
