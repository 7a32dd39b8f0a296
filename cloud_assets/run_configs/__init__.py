"""Run configurations: one quick and one full per job, and how to find them."""
