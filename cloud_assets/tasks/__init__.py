"""The tasks: one declaration a module."""
