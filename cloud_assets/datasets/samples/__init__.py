"""Writers of small simulated data sets in the original formats."""

from typing import Final

SYNTHETIC_MARKER: Final = "SYNTHETIC.md"
"""A file of this name in a data set's folder says that a sample writer simulated its pixels."""
