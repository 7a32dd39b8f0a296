"""Networks, their specifications, and the weights that come with the package."""
