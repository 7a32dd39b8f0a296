"""Writers of small simulated data sets in the original formats."""
