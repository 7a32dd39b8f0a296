"""Schedules, sensors and the jobs that they start."""
