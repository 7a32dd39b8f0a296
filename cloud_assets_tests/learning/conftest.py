"""Fixtures of the toy task."""

from cloud_assets_tests.toy_task import toy_recipe, toy_run, toy_splits, toy_store

__all__ = ["toy_recipe", "toy_run", "toy_splits", "toy_store"]
