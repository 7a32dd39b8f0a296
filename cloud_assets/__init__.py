"""Cloud Assets: machine learning for clouds in satellite imagery, as software-defined assets."""

__version__ = "0.1.0"
