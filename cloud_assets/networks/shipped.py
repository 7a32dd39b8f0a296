"""The model that comes with the package, trained on simulated patches alone.

``benchmarks/simulation_only.py`` trains it; its folder is an ordinary model bundle, weights in half precision.
"""

from pathlib import Path
from typing import Final

SIMULATION: Final = "simulation"
"""What configurations and commands call the model."""
SIMULATION_MODEL: Final = Path(__file__).parent / "simulation"
"""Its folder."""
SIMULATION_WEIGHTS: Final = SIMULATION_MODEL / "weights.safetensors"
"""Its weights: U-Net with EfficientNet-B2; red, green, blue, near infrared as reflectance 0 … 1.2 and their fine
texture; clear, thick cloud, thin cloud and cloud shadow out of it."""
