"""Evaluations, comparisons and other findings, their figures and HTML pages."""
